/** What commands printed: kept to a bound, told in lines however it came, followed, and gone a while after the sandbox. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { BOUNDS } from "../../../src/api/edge/bounds.ts";
import { createEdge } from "../../../src/api/edge/index.ts";
import { type Channel, Tape } from "../../../src/api/edge/logs/tape.ts";
import { Tapes } from "../../../src/api/edge/logs/tapes.ts";
import { watchedHost } from "../../../src/api/edge/logs/watched.ts";
import type { Exec } from "../../../src/contract/routes/exec.ts";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import { FakeClock } from "../../harness/clock.ts";
import { until } from "../../harness/until.ts";
import { Api } from "../subject.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const never = new AbortController().signal;

async function kept(tape: Tape, wanted: Channel | null = null): Promise<string[]> {
  return Array.fromAsync(tape.lines(wanted, { follow: false, signal: never }));
}

/** A reader that collects as it goes. */
function following(
  tape: Tape,
  signal: AbortSignal = never,
): { readonly lines: string[]; readonly over: Promise<void> } {
  const lines: string[] = [];
  const over = (async () => {
    for await (const line of tape.lines(null, { follow: true, signal })) lines.push(line);
  })();
  return { lines, over };
}

describe("Tape", () => {
  test("tells the lines of each stream whole, however they were cut and mixed", async () => {
    const line = fc.string({ unit: "grapheme", maxLength: 40 }).map((text) => text.replace(/[\n\r]/g, ""));
    const step = fc.record({ stream: fc.nat(2), length: fc.integer({ min: 1, max: 30 }) });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(line, { maxLength: 6 }), { minLength: 3, maxLength: 3 }),
        fc.array(step, { maxLength: 60 }),
        async (streams, steps) => {
          const tape = new Tape();
          const sources = streams.map((_, i) => tape.source(i === 1 ? "stderr" : "stdout"));
          const left = streams.map((lines) => bytes(lines.map((text) => `${text}\n`).join("")));
          const follower = following(tape);
          for (const { stream, length } of [...steps, ...streams.map((_, stream) => ({ stream, length: 10_000 }))]) {
            const source = sources[stream];
            if (source === undefined) continue;
            tape.append(source, left[stream]?.subarray(0, length) ?? new Uint8Array());
            left[stream] = left[stream]?.subarray(length) ?? new Uint8Array();
          }
          tape.finish();
          await follower.over;
          const all = await kept(tape);
          expect(all.toSorted()).toEqual(streams.flat().toSorted());
          expect(follower.lines).toEqual(all);
          expect(await kept(tape, "stderr")).toEqual([...(streams[1] ?? [])]);
        },
      ),
      { numRuns: 200 },
    );
  });

  test("keeps the end within its bound, and begins with a whole line", async () => {
    for (const [length, count] of [
      [1, 2_000_000],
      [50, 60_000],
      [10_000, 400],
    ] as const) {
      const tape = new Tape();
      const source = tape.source("stdout");
      const text = bytes(`${"x".repeat(length - 1)}\n`);
      const piece = length === 1 ? new Uint8Array(1000).fill(10) : text;
      const repeats = (length * count) / piece.length;
      for (let i = 0; i < repeats; i++) tape.append(source, piece);
      expect(tape.cost).toBeLessThanOrEqual(BOUNDS.tapeBytes);
      const lines = await kept(tape);
      expect(new Set(lines)).toEqual(new Set(["x".repeat(length - 1)]));
      expect(lines.length * length).toBeGreaterThan(BOUNDS.tapeBytes * 0.9);
    }
  });

  test("skips the end of a line whose beginning is gone, and no line behind it", async () => {
    const tape = new Tape();
    const [long, other] = [tape.source("stdout"), tape.source("stderr")];
    tape.append(long, bytes("lost "));
    for (let i = 0; i < 30; i++) tape.append(other, bytes("kept\n".repeat(10_000)));
    tape.append(long, bytes("tail\nwhole\n"));
    const lines = await kept(tape, "stdout");
    expect(lines).toEqual(["whole"]);
    expect(new Set(await kept(tape, "stderr"))).toEqual(new Set(["kept"]));
  });

  test("keeps a thousand small commands, their last lines without a newline too", async () => {
    const tape = new Tape();
    for (let i = 0; i < 1000; i++) {
      const source = tape.source("stdout");
      tape.append(source, bytes(`ok ${i}`));
      tape.end(source);
    }
    expect(await kept(tape)).toEqual(Array.from({ length: 1000 }, (_, i) => `ok ${i}`));
  });

  test("tells a follower an unfinished line when its command ends, and a long one in pieces", async () => {
    const tape = new Tape();
    const follower = following(tape);
    const [first, second] = [tape.source("stdout"), tape.source("stdout")];
    tape.append(first, bytes("password: "));
    tape.append(second, bytes("between\n"));
    await until("the whole line is there", () => follower.lines.length === 1);
    tape.end(first);
    await until("the unfinished one is there", () => follower.lines.length === 2);
    tape.append(second, bytes("y".repeat(200_000)));
    await until("there are pieces", () => follower.lines.length >= 3);
    tape.finish();
    await follower.over;
    expect(follower.lines.slice(0, 2)).toEqual(["between", "password: "]);
    expect(follower.lines.slice(2).join("")).toBe("y".repeat(200_000));
  });

  test("tells a reader that was too slow that lines are missing, and goes on with whole ones", async () => {
    const tape = new Tape();
    const source = tape.source("stdout");
    tape.append(source, bytes("first\n"));
    const reader = tape.lines(null, { follow: true, signal: never });
    expect((await reader.next()).value).toBe("first");
    for (let i = 0; i < 100_000; i++) tape.append(source, bytes(`line ${i} ${"z".repeat(40)}\n`));
    tape.finish();
    const rest = await Array.fromAsync(reader);
    expect(rest[0]).toContain("not here");
    expect(rest.slice(1).every((line) => /^line \d+ z{40}$/.test(line))).toBe(true);
    expect(rest.at(-1)).toStartWith("line 99999 ");
  });

  test("ends a follower with its signal", async () => {
    const abort = new AbortController();
    const follower = following(new Tape(), abort.signal);
    abort.abort();
    await follower.over;
    expect(follower.lines).toEqual([]);
  });
});

describe("Tapes", () => {
  test("forget the one that was silent longest when all together are too much, and those that ended", async () => {
    const clock = new FakeClock();
    const tapes = new Tapes(clock);
    const block = new Uint8Array(BOUNDS.tapeBytes / 2 - 4096).fill(65);
    for (let i = 0; i < 600; i++) tapes.recorder("a", `sb_${i}`).take("stdout", block);
    expect(tapes.cost).toBeLessThanOrEqual(BOUNDS.tapesBytes);
    expect(tapes.find("a", "sb_0")).toBeNull();
    expect(tapes.find("a", "sb_599")).not.toBeNull();
    expect(tapes.find("b", "sb_599")).toBeNull();
    tapes.finish("a", "sb_599");
    await clock.advance(BOUNDS.tapeKeepMs - 1);
    expect(tapes.find("a", "sb_599")).not.toBeNull();
    await clock.advance(1);
    expect(tapes.find("a", "sb_599")).toBeNull();
  });

  test("write each byte of a background command once, whoever is attached to it and when", async () => {
    const tapes = new Tapes(new FakeClock());
    const [first, second, third] = [1, 2, 3].map(() => tapes.recorder("a", "s"));
    first?.takeOf(7, "stdout", bytes("one\ntwo\n"));
    second?.takeOf(7, "stdout", bytes("one\n"));
    second?.takeOf(7, "stdout", bytes("two\nthree\n"));
    first?.takeOf(7, "stdout", bytes("three\nfour\n"));
    third?.skip(8);
    third?.takeOf(7, "stdout", bytes("three\nfour\nfive\n"));
    for (const recorder of [first, second, third]) recorder?.end();
    const tape = tapes.find("a", "s");
    expect((await kept(tape as Tape)).toSorted()).toEqual(["five", "four", "one", "three", "two"]);
  });
});

describe("GET …/logs", () => {
  const started = () => Api.start({ edge: createEdge });
  const sandbox = async (api: Api) =>
    ((await api.call("POST", "/v1/sandboxes", {})).body as unknown as { id: string }).id;
  const text = async (api: Api, path: string, key = api.admin) => {
    const response = await api.raw("GET", path, { key, headers: { accept: "text/plain" } });
    return { status: response.status, type: response.headers.get("content-type"), text: await response.text() };
  };

  test("is lines of text, as the SDK reads them, of all commands or of one stream", async () => {
    await using api = await started();
    const id = await sandbox(api);
    const logs = `/v1/sandboxes/${id}/logs`;
    expect(await text(api, logs)).toEqual({ status: 200, type: "text/plain; charset=utf-8", text: "" });
    await api.call("POST", `/v1/sandboxes/${id}/exec`, { cmd: "echo out; echo err >&2; printf 'no \\033[2J end'" });
    await (
      await api.raw("POST", `/v1/sandboxes/${id}/exec/stream`, { body: JSON.stringify({ cmd: "echo streamed" }) })
    ).text();
    expect((await text(api, `${logs}?stream=stdout&follow=0`)).text.split("\n").toSorted()).toEqual([
      "",
      "no \u001b[2J end",
      "out",
      "streamed",
    ]);
    expect((await text(api, `${logs}?stream=stderr`)).text).toBe("err\n");
    expect((await text(api, `${logs}?stream=other`)).status).toBe(400);
    expect((await text(api, `${logs}?other=1`)).status).toBe(400);
    expect((await text(api, "/v1/sandboxes/sb_none/logs")).status).toBe(404);
    expect((await text(api, logs, await api.key("stranger"))).status).toBe(404);
    expect((await text(api, logs, await api.key("acme", ["sandbox:write"]))).status).toBe(403);
    await api.raw("DELETE", `/v1/sandboxes/${id}`);
    expect((await text(api, `${logs}?stream=stderr`)).text).toBe("err\n");
  });

  test("has no HEAD, which would begin what nobody ends, and as text it ends when its client leaves before it has begun", async () => {
    let [begun, left] = [0, 0];
    const around = (host: SandboxHost): SandboxHost => ({
      ...host,
      exec: async (_, options) => {
        begun += 1;
        options?.signal?.addEventListener("abort", () => (left += 1));
        return (async function* () {
          await new Promise((resolve) => options?.signal?.addEventListener("abort", resolve));
          yield { kind: "started", process: 1, pid: 1 } as const;
        })();
      },
    });
    await using api = await Api.start({ edge: createEdge, around, settings: { drainMs: 3_600_000 } });
    const path = `/v1/sandboxes/${await sandbox(api)}/logs?stream=kernel&follow=1`;
    const headers = { accept: "text/plain" };
    expect([(await api.raw("HEAD", path, { headers })).status, begun]).toEqual([405, 0]);
    const leave = new AbortController();
    const authorization = `Bearer ${api.admin}`;
    const request = new Request(api.url + path, { headers: { ...headers, authorization }, signal: leave.signal });
    expect((await api.app.fetch(request, null)).status).toBe(200); // and nobody reads its body
    leave.abort();
    await until("the command is told", () => begun === 1 && left === 1);
    await api.app.close(); // which would wait for what is still held
  });

  test("follows as events until the sandbox ends, escapes and all as data", async () => {
    await using api = await started();
    const id = await sandbox(api);
    await api.call("POST", `/v1/sandboxes/${id}/exec`, { cmd: "printf 'before\\033[31m\\n'" });
    const response = await api.raw("GET", `/v1/sandboxes/${id}/logs?follow=1`, {
      headers: { accept: "text/event-stream" },
    });
    let heard = "";
    const reading = (async () => {
      for await (const piece of response.body as ReadableStream<Uint8Array>) heard += new TextDecoder().decode(piece);
    })();
    await until("what was before is there", () => heard.includes("before"));
    expect(heard).not.toContain("\u001b");
    await api.call("POST", `/v1/sandboxes/${id}/exec`, { cmd: "echo behind" });
    await until("what comes is there", () => heard.includes("behind"));
    await api.raw("DELETE", `/v1/sandboxes/${id}`);
    await reading;
    const lines = [...heard.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data ?? "").line);
    expect(lines).toEqual(["before\u001b[31m", "behind"]);
  });

  test("asks the guest for what its kernel says, and does not write that down", async () => {
    const around = (host: SandboxHost): SandboxHost => ({
      ...host,
      // The fake guest has no dmesg.
      exec: (input, options) =>
        host.exec(
          input.argv?.[0] === "dmesg" ? { id: input.id, cmd: `echo ${input.argv.join("_")}; echo up` } : input,
          options,
        ),
    });
    await using api = await Api.start({ edge: createEdge, around });
    const id = await sandbox(api);
    const kernel = (query: string) => text(api, `/v1/sandboxes/${id}/logs?stream=kernel${query}`);
    expect(await kernel("")).toMatchObject({ status: 200, text: "dmesg\nup\n" });
    expect(await kernel("&follow=1")).toMatchObject({ status: 200, text: "dmesg_--follow\nup\n" });
    expect((await text(api, `/v1/sandboxes/${id}/logs`)).text).toBe("");
  });
});

test("A watched host writes down commands, cells and what is attached, and no terminal; leaving a stream leaves it inside", async () => {
  let left = 0;
  async function* events(said: string) {
    try {
      yield { kind: "stdout", bytes: bytes(`${said}\n`), text: `${said}\n` };
      yield { kind: "stderr", bytes: bytes(`${said} err\n`), text: `${said} err\n` };
    } finally {
      left += 1;
    }
  }
  const made = { createPath: "ready", createMs: 5 };
  const calls = {
    create: async () => made,
    exec: async ({ terminal }: Exec) => events(terminal === undefined ? "exec" : "terminal"),
    attach: async () => events("attach"),
    runCode: async () => events("cell"),
    ports: async () => [],
  };
  // A class, whose methods are not its own properties.
  class Calling {}
  Object.assign(Calling.prototype, calls);
  for (const host of [calls, new Calling()]) {
    left = 0;
    const tapes = new Tapes(new FakeClock());
    const created: unknown[] = [];
    const watched = watchedHost(host as unknown as SandboxHost, "a", tapes, (info) => created.push(info));
    const terminal = { rows: 1, cols: 1 };
    await Array.fromAsync(await watched.exec({ id: "s", cmd: "x" }));
    await Array.fromAsync(await watched.exec({ id: "s", cmd: "x", terminal }));
    await Array.fromAsync(await watched.attach({ id: "s", process: 1 }));
    await Array.fromAsync(await watched.runCode({ id: "s", context: 1, code: "" }));
    for await (const _ of await watched.exec({ id: "s", cmd: "x" })) break;
    expect(await watched.ports({ id: "s" })).toEqual([]);
    await watched.create({});
    const lines = await kept(tapes.find("a", "s") as Tape);
    expect(lines).toEqual(["exec", "exec err", "attach", "attach err", "cell", "cell err", "exec"]);
    expect([left, created]).toEqual([5, [made]] as never);
  }
});
