/** The monitor's reader takes any cut of its lines and refuses everything that is not QMP. */

import { heapStats } from "bun:jsc";
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Clock } from "../../src/base/clock.ts";
import type { Link } from "../../src/driver/driver.ts";
import { parseQmpLine, Qmp, type QmpMessage, QmpReader } from "../../src/driver/qemu/qmp.ts";
import { isWarrenError } from "../../src/errors.ts";
import { LIMITS } from "../../src/limits.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const LINES = [
  '{"QMP":{"version":{}}}',
  '{"return":{},"id":1}',
  '{"error":{"class":"X","desc":"né"},"id":2}',
  '{"event":"STOP","data":{}}',
];

/** The messages of these chunks. */
function read(...chunks: Uint8Array[]): QmpMessage[] {
  const messages: QmpMessage[] = [];
  const reader = new QmpReader((message) => messages.push(message));
  for (const chunk of chunks) reader.push(chunk);
  return messages;
}

test("QmpReader gives the same messages at every cut", () => {
  const all = bytes(`${LINES.join("\r\n")}\n`);
  const whole = read(all);
  expect(whole.map((m) => m.kind)).toEqual(["greeting", "return", "error", "event"]);
  for (let cut = 0; cut <= all.length; cut++) {
    expect(read(all.subarray(0, cut), all.subarray(cut))).toEqual(whole);
  }
});

test("QmpReader refuses with a typed error whatever is no message", () => {
  for (const line of ["x", "[]", "1", "{}", '{"return":1}', '{"return":1,"id":"1"}', '{"event":3}', "\xff"]) {
    expect(() => read(bytes(`${line}\n`))).toThrow("monitor sent");
  }
  expect(() => read(Uint8Array.from([0xff, 0xfe, 10]))).toThrow("UTF-8");
});

test("QmpReader refuses a line beyond its bound before it holds more", () => {
  const reader = new QmpReader(() => undefined);
  const piece = new Uint8Array(1 << 16).fill(120);
  expect(() => {
    for (let i = 0; i <= LIMITS.qmpLineBytes / piece.length; i++) reader.push(piece);
  }).toThrow("over");
});

test("QmpReader gives what came before a violation even in the same chunk", () => {
  const messages: QmpMessage[] = [];
  const reader = new QmpReader((message) => messages.push(message));
  expect(() => reader.push(bytes(`${LINES[1]}\nnot a message\n${LINES[3]}\n`))).toThrow("not JSON");
  expect(messages).toEqual([{ kind: "return", id: 1, value: {} }]);
});

test("QmpReader holds a line that comes byte by byte in one buffer", () => {
  const reader = new QmpReader(() => undefined);
  const arrays = (): number => {
    Bun.gc(true);
    return heapStats().objectTypeCounts["Uint8Array"] ?? 0;
  };
  const before = arrays();
  for (let i = 0; i < 50_000; i++) reader.push(new Uint8Array(1).fill(120));
  expect(arrays() - before).toBeLessThan(10_000);
  expect(reader.heldBytes).toBeLessThan(3 * 50_000);
});

test("parseQmpLine makes no text of an error's description that is none", () => {
  const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
  for (const desc of ['{"toString":1,"valueOf":1}', "null", "7", deep]) {
    const message = parseQmpLine(`{"error":{"desc":${desc}},"id":1}`);
    expect(message).toEqual({ kind: "error", id: 1, says: "no reason" });
  }
});

test("parseQmpLine ends in a message or a driver_failed on any text", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), fc.constantFrom(...LINES)), (line) => {
      try {
        expect(typeof parseQmpLine(line).kind).toBe("string");
      } catch (error) {
        expect(isWarrenError(error, "driver_failed")).toBe(true);
      }
    }),
    { numRuns: 3000 },
  );
});

/** A monitor in memory: what the client writes is seen, what is said is read. */
function wire(): { link: Link; say(message: unknown): void; end(): void; seen: Record<string, unknown>[] } {
  const seen: Record<string, unknown>[] = [];
  const queue: Uint8Array[] = [];
  let wake = (): void => undefined;
  let over = false;
  const link: Link = {
    write: async (sent) =>
      void seen.push(
        ...new TextDecoder()
          .decode(sent)
          .trim()
          .split("\n")
          .map((l) => JSON.parse(l)),
      ),
    bytes: {
      async *[Symbol.asyncIterator]() {
        while (!over || queue.length > 0) {
          const next = queue.shift();
          if (next !== undefined) yield next;
          else await new Promise<void>((resolve) => (wake = resolve));
        }
      },
    },
    close: () => {
      over = true;
      wake();
    },
  };
  return {
    link,
    seen,
    end: () => link.close(),
    say: (message) => {
      queue.push(bytes(`${JSON.stringify(message)}\n`));
      wake();
    },
  };
}

const heldTimers: (() => void)[] = [];
const clock: Clock = {
  monotonicMs: () => 0,
  wallMs: () => 0,
  sleep: () => Promise.reject(new Error("not used")),
  after: (_ms, job) => {
    heldTimers.push(job);
    return () => undefined;
  },
};

test("Qmp matches answers to commands whatever their order", async () => {
  const { link, say, seen } = wire();
  const qmp = new Qmp(link, clock);
  say({ QMP: {} });
  await qmp.ready();
  const [first, second] = [qmp.command("a"), qmp.command("b", { x: 1 })];
  say({ return: "two", id: 2 } satisfies Partial<Record<string, unknown>>);
  say({ return: "one", id: 1 });
  expect(await Promise.all([first, second])).toEqual(["one", "two"]);
  expect(seen).toEqual([
    { execute: "a", id: 1 },
    { execute: "b", id: 2, arguments: { x: 1 } },
  ]);
});

test("Qmp fails every waiting command when the monitor closes", async () => {
  const { link, end } = wire();
  const qmp = new Qmp(link, clock);
  const waiting = qmp.command("a");
  end();
  await expect(waiting).rejects.toMatchObject({ code: "driver_failed" });
  await expect(qmp.command("b")).rejects.toMatchObject({ code: "driver_failed" });
});

test("Qmp gives up on a silent monitor at its deadline", async () => {
  const qmp = new Qmp(wire().link, clock);
  const waiting = qmp.command("a");
  for (const expire of heldTimers.splice(0)) expire();
  await expect(waiting).rejects.toThrow("did not answer a");
});

test("Qmp ends on a hostile line and says so to every caller", async () => {
  const { link, say } = wire();
  const qmp = new Qmp(link, clock);
  const waiting = qmp.command("a");
  say(["not", "an", "object"]);
  await expect(waiting).rejects.toThrow("not an object");
});

test("Qmp has nothing left to reject when its connection turns out to be closed as a command is written", async () => {
  const { link, end } = wire();
  const closed = new Error("closed");
  for (const write of [() => Promise.reject(closed), (): never => fail(closed)]) {
    const qmp = new Qmp({ ...link, write }, clock);
    await expect((async () => qmp.command("a"))()).rejects.toMatchObject({ code: "driver_failed" });
  }
  end(); // a promise that nobody waits for would be an unhandled rejection now, which fails this file
});

function fail(cause: Error): never {
  throw cause;
}
