/** `warren terminal`: keys in, bytes out, sizes, and both ways to end it. */
import { describe, expect, test } from "bun:test";
import type { Body } from "../../src/contract/route.ts";
import type { Exec, ExecEvent } from "../../src/contract/routes/exec.ts";
import { bytesOf, StubHost } from "../batch/stub-host.ts";
import { until } from "../harness/until.ts";
import { FakeIo } from "./fake-io.ts";

/** Keys that a test presses. */
class Keyboard {
  readonly #pressed: string[] = [];
  #wake = Promise.withResolvers<void>();

  press(keys: string): void {
    this.#pressed.push(keys);
    this.#wake.resolve();
  }

  async *keys(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const keys = this.#pressed.shift();
      if (keys !== undefined) yield new TextEncoder().encode(keys);
      else {
        await this.#wake.promise;
        this.#wake = Promise.withResolvers();
      }
    }
  }
}

/** A guest whose terminal shows what is typed, escape sequences too, and ends at `q`. */
function guest() {
  const asked: Exec[] = [];
  const sizes: unknown[] = [];
  let typed = Promise.withResolvers<string>();
  let ended = "";
  const exec = async (input: Exec, options?: { readonly signal?: AbortSignal }) => {
    asked.push(input);
    const over = new Promise<never>((_, reject) => {
      options?.signal?.addEventListener("abort", () => {
        ended = "cancelled";
        reject(options.signal?.reason);
      });
    });
    over.catch(() => undefined); // nobody may wait for it yet
    return (async function* (): AsyncGenerator<ExecEvent> {
      yield { kind: "started", process: 7, pid: 70 };
      for (;;) {
        const keys = await Promise.race([typed.promise, over]);
        typed = Promise.withResolvers();
        if (keys === "q") break;
        yield { kind: "stdout", bytes: Buffer.from(`\x1b[1m${keys}`) };
      }
      yield {
        ...{ kind: "exit", exitCode: 5, signal: null, timedOut: false },
        ...{ stdoutTruncated: false, stderrTruncated: false, durationMs: 1 },
      };
    })();
  };
  const stdin = async ({ body }: { readonly body: Body }) =>
    typed.resolve(new TextDecoder().decode(await bytesOf(body)));
  const resizeTerminal = async (size: unknown) => void sizes.push(size);
  return { host: { ...new StubHost().host, exec, stdin, resizeTerminal }, asked, sizes, how: () => ended };
}

function seated(of: ReturnType<typeof guest>) {
  const keyboard = new Keyboard();
  const opened = {
    ...{ host: of.host, moves: () => () => undefined, cores: 2, memoryMib: () => null },
    [Symbol.asyncDispose]: async () => undefined,
  };
  const io = new FakeIo({ isTty: true, keys: keyboard.keys(), ground: { open: async () => opened } });
  return { keyboard, io };
}

describe("warren terminal", () => {
  test("keys go in as they are, bytes come out as they are, and the exit code is the shell's", async () => {
    const of = guest();
    const { keyboard, io } = seated(of);
    const code = io.run("terminal", "-u", "nobody", "sb_1");
    keyboard.press("\x03");
    await until("it is shown", () => io.text("out").includes("\x1b[1m\x03"));
    io.sides = { rows: 50, cols: 132 };
    for (const tell of io.resized) tell();
    keyboard.press("q");
    expect(await code).toBe(5);
    expect(of.asked[0]).toMatchObject({
      id: "sb_1",
      user: "nobody",
      terminal: { rows: 24, cols: 100 },
      stdinOpen: true,
    });
    expect(of.sizes).toEqual([{ id: "sb_1", process: 7, rows: 50, cols: 132 }]);
    expect([io.unseen, io.resized.size]).toEqual([1, 0]);
  });

  test("Ctrl-] leaves, which ends what runs", async () => {
    const of = guest();
    const { keyboard, io } = seated(of);
    const code = io.run("terminal", "sb_1", "top", "-d", "1");
    keyboard.press("\x1d");
    expect(await code).toBe(0);
    expect([of.asked[0]?.argv, of.how()]).toEqual([["top", "-d", "1"], "cancelled"]);
  });

  test("without a terminal it says what to do instead", async () => {
    const io = new FakeIo();
    expect(await io.run("terminal", "sb_1")).toBe(2);
    expect(io.text("err")).toContain("`warren exec` needs none");
  });
});
