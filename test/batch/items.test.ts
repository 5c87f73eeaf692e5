/** From bytes to jobs: cut anywhere, exact, bounded; and names that are safe whatever they were. */
import { describe, expect, test } from "bun:test";
import { posix } from "node:path";
import fc from "fast-check";
import { safeComponent, safePath } from "../../src/batch/artifacts/safe-name.ts";
import { digestOf } from "../../src/batch/items/digest.ts";
import { jobOf } from "../../src/batch/items/item.ts";
import { readJobs, splitLines } from "../../src/batch/items/lines.ts";
import { noLocalFiles } from "../../src/batch/items/local-files.ts";
import { rawMember } from "../../src/batch/items/raw-json.ts";
import { rowOf } from "../../src/batch/row.ts";
import { spreadOf } from "../../src/batch/summary.ts";

async function* cutAt(bytes: Uint8Array, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  let at = 0;
  for (const cut of [...cuts, bytes.length].sort((a, b) => a - b)) {
    const end = Math.min(cut, bytes.length);
    if (end > at) yield bytes.subarray(at, end);
    at = Math.max(at, end);
  }
}

async function all<T>(source: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const value of source) found.push(value);
  return found;
}

describe("splitLines", () => {
  test("splitLines finds the same lines however the bytes come", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom("a", "é", "\n", "\n\n", "long text"), { maxLength: 30 }),
        fc.array(fc.nat(200), { maxLength: 8 }),
        async (parts, cuts) => {
          const text = parts.join("");
          const lines = await all(splitLines(cutAt(Buffer.from(text), cuts)));
          const want = text.split("\n");
          if (want.at(-1) === "") want.pop();
          expect(lines.map((line) => new TextDecoder().decode(line ?? undefined))).toEqual(want);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("splitLines drops a line that is too long and goes on behind it", async () => {
    const bytes = Buffer.from(`ab\n${"x".repeat(100)}\ncd\n`);
    const lines = await all(splitLines(cutAt(bytes, [5, 50]), 10));
    expect(lines.map((line) => line && new TextDecoder().decode(line))).toEqual(["ab", null, "cd"]);
  });
});

describe("rawMember", () => {
  test("rawMember finds the text that JSON.parse finds the value of", () => {
    const value = fc.jsonValue({ maxDepth: 3 });
    fc.assert(
      fc.property(fc.dictionary(fc.string(), value), value, fc.nat(3), (rest, input, indent) => {
        const text = JSON.stringify({ ...rest, input, after: [1, "input"] }, null, indent);
        expect(JSON.parse(rawMember(text, "input") ?? "null")).toEqual(JSON.parse(text).input);
      }),
      { numRuns: 1000 },
    );
    expect(rawMember('{"a":{"input":1},"b":"\\"input\\":2"}', "input")).toBeNull();
    expect(rawMember('{"inpu\\u0074" : [1.0, 2e3 ] , "x":0}', "input")).toBe("[1.0, 2e3 ]");
    expect(rawMember('{"input":1,"input":12345678901234567890}', "input")).toBe("12345678901234567890");
    expect(rawMember("[1]", "input")).toBeNull();
  });
});

describe("readJobs", () => {
  test("readJobs never throws for what a file holds: a job or a named line for each that is not blank", async () => {
    const line = fc.oneof(
      fc.constantFrom(
        '{"id":1,"code":"x"}',
        '{"id":"a","cmd":"y","input":[1]}',
        "",
        "   ",
        "{",
        "null",
        "[]",
        '{"id":{}}',
      ),
      fc.json(),
      fc.string(),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(line, { maxLength: 12 }), async (lines) => {
        const flat = lines.map((text) => text.replaceAll("\n", " "));
        const found = await all(readJobs(cutAt(Buffer.from(flat.join("\n")), [7, 20])));
        const wanted = flat.map((text, i) => [i + 1, text] as const).filter(([, text]) => !/^[ \t\r]*$/.test(text));
        expect(found.map(({ number }) => number)).toEqual(wanted.map(([number]) => number));
      }),
      { numRuns: 500 },
    );
  });
});

describe("digestOf", () => {
  test("digestOf changes with everything that may change a result, and with nothing else", async () => {
    const base = {
      id: "a",
      code: "x",
      input: { a: 1 },
      files: { f: "1", g: "2" },
      output_paths: ["o"],
      timeout_seconds: 3,
    };
    const digest = (item: unknown) => digestOf(jobOf(item), noLocalFiles);
    const first = await digest(base);
    expect(await digest({ ...base, id: "b", files: { g: "2", f: "1" } })).toBe(first);
    const changes = [
      { code: "y" },
      { code: undefined, cmd: "x" },
      { input: { a: 2 } },
      { input: undefined },
      { files: { f: "1", g: "3" } },
      { files: { f: "1" } },
      { output_paths: ["p"] },
      { timeout_seconds: 4 },
    ];
    const others = await Promise.all(
      changes.map((change) => digest(JSON.parse(JSON.stringify({ ...base, ...change })))),
    );
    expect(new Set([first, ...others]).size).toBe(changes.length + 1);
  });
});

describe("safePath", () => {
  const name = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc
      .array(fc.constantFrom("..", ".", "", "a", "A", ".b", "c d", "%", "%2E", "é", "\0"), { maxLength: 25 })
      .map((parts) => Buffer.from(parts.join("/"))),
  );

  test("safePath stays below its directory and within bounds, for any bytes", () => {
    fc.assert(
      fc.property(name, (bytes) => {
        const safe = safePath(bytes);
        expect(safe).toMatch(/^[A-Za-z0-9%_~-][A-Za-z0-9._%~-]*(\/[A-Za-z0-9%_~-][A-Za-z0-9._%~-]*)*$/);
        expect(posix.resolve("/root/dir", safe)).toBe(`/root/dir/${safe}`);
        expect(safe.length).toBeLessThan(3000);
        for (const part of safe.split("/")) expect(part.length).toBeLessThan(200);
      }),
      { numRuns: 2000 },
    );
  });

  test("safeComponent keeps different names different", () => {
    const component = fc.oneof(fc.uint8Array({ maxLength: 6 }), fc.uint8Array({ minLength: 100, maxLength: 260 }));
    fc.assert(
      fc.property(component, component, (a, b) => {
        expect(safeComponent(a) === safeComponent(b)).toBe(Buffer.from(a).equals(Buffer.from(b)));
      }),
      { numRuns: 2000 },
    );
    expect(safeComponent(Buffer.from("chart-1.final.png"))).toBe("chart-1.final.png");
  });
});

describe("rowOf", () => {
  const exit = { exitCode: 0, signal: null, timedOut: false, truncated: false };
  const times = { queuedMs: 0, createMs: 0, execMs: 0, costUsd: 0 };
  const ran = { exit, stderr: new Uint8Array(0), artifacts: [], problem: null, timeoutSeconds: 1 };

  test("rowOf gives back the exact bytes of any output", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 50 }), (bytes) => {
        const row = rowOf("x", { ...ran, stdout: bytes }, times);
        const exact =
          row.stdout_base64 === undefined ? Buffer.from(row.stdout) : Buffer.from(row.stdout_base64, "base64");
        expect([...exact]).toEqual([...bytes]);
        expect(JSON.parse(JSON.stringify(row)).stdout).toBe(row.stdout);
        expect(row.ok).toBe(row.error === null);
      }),
      { numRuns: 1000 },
    );
  });

  test("rowOf does not call text binary because a cap cut a character in two", () => {
    const text = Buffer.from("aé日👍");
    for (let cut = 0; cut <= text.length; cut++) {
      const row = rowOf("x", { ...ran, exit: { ...exit, truncated: true }, stdout: text.subarray(0, cut) }, times);
      expect(row.stdout_base64).toBeUndefined();
      expect("aé日👍".startsWith(row.stdout)).toBe(true);
    }
  });
});

test("spreadOf gives nearest-rank percentiles", () => {
  expect(spreadOf([])).toBeNull();
  expect(spreadOf([5])).toEqual({ p50: 5, p99: 5 });
  const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
  expect(spreadOf(hundred)).toEqual({ p50: 50, p99: 99 });
});
