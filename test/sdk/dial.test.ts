/** Connections to ports through the API: exact both ways, in step with whoever is slow, and over for both when one leaves. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { systemClock } from "../../src/base/clock.ts";
import { type Client, connect } from "../../src/client.ts";
import type { Body } from "../../src/contract/route.ts";
import { DIAL_WINDOW_BYTES, dialText } from "../../src/contract/wire/dial.ts";
import { WarrenError } from "../../src/errors.ts";
import { hostOf } from "../../src/sdk/host.ts";
import type { Runtime } from "../../src/sdk/runtime.ts";
import { Api } from "../api/subject.ts";
import { settle } from "../harness/clock.ts";
import { until } from "../harness/until.ts";
import { fails, pattern, sha256 } from "../suites/sandbox/subject.ts";

const KIB = 1024;

/** The program behind the port, as a test writes it. */
type Program = (said: AsyncIterable<Uint8Array>, signal: AbortSignal) => AsyncIterable<Uint8Array>;

let program: Program;
let api: Api;
let key: string;
let client: Client;
let id: string;

beforeAll(async () => {
  api = await Api.start({
    around: (host) => ({
      ...host,
      dial: async ({ id, body }, { signal } = {}) => {
        await host.get({ id });
        return program(body as AsyncIterable<Uint8Array>, signal ?? new AbortController().signal);
      },
    }),
  });
  key = await api.key();
  client = connect({ url: api.url, key });
  id = (await client.Sandbox.create()).id;
});
afterAll(() => api[Symbol.asyncDispose]());

const dial = (body: Body, signal?: AbortSignal) =>
  client.host.dial({ id, port: 80, body }, signal === undefined ? {} : { signal });

async function* never(): AsyncGenerator<Uint8Array> {
  await new Promise(() => undefined);
  yield new Uint8Array();
}

async function joined(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  return new Uint8Array(Buffer.concat(await Array.fromAsync(stream)));
}

/** Waits until a count no longer changes. */
async function still(count: () => number): Promise<number> {
  let before = -1;
  await until("it stands still", async () => {
    const same = before === count() && before > 0;
    before = count();
    for (let i = 0; i < 30; i++) await settle();
    return same;
  });
  return before;
}

describe("dial", () => {
  test("carries bytes of any length both ways, each direction to its own end", async () => {
    let heard: Uint8Array = new Uint8Array();
    program = async function* (said) {
      yield new TextEncoder().encode("hello ");
      heard = await joined(said);
      yield heard;
    };
    const bytes = pattern(3 * DIAL_WINDOW_BYTES + 7);
    async function* pieces() {
      yield bytes.subarray(0, 1);
      yield new Uint8Array();
      yield bytes.subarray(1);
    }
    const back = await joined(await dial(pieces()));
    expect(sha256(heard)).toBe(sha256(bytes));
    expect(sha256(back.subarray(6))).toBe(sha256(bytes));
    expect(new TextDecoder().decode(await joined(await dial("text")))).toBe("hello text");
    expect((await joined(await dial(new Uint8Array()))).length).toBe(6);
  });

  test("sends no more than a window to a program that does not read, and goes on when it does", async () => {
    const go = Promise.withResolvers<void>();
    let taken = 0;
    program = async function* (said) {
      await go.promise;
      for await (const bytes of said) taken += bytes.length;
      yield new Uint8Array([1]);
    };
    let given = 0;
    const total = 5 * DIAL_WINDOW_BYTES;
    async function* pieces() {
      while (given < total) {
        given += 16 * KIB;
        yield new Uint8Array(16 * KIB);
      }
    }
    const reading = dial(pieces()).then(joined);
    expect(await still(() => given)).toBeLessThanOrEqual(DIAL_WINDOW_BYTES + 64 * KIB);
    go.resolve();
    expect((await reading).length).toBe(1);
    expect([given, taken]).toEqual([total, total]);
  });

  test("reads no more than a window of a program that nobody reads, and all of it in the end", async () => {
    let given = 0;
    const total = 5 * DIAL_WINDOW_BYTES;
    program = async function* () {
      while (given < total) {
        given += 16 * KIB;
        yield new Uint8Array(16 * KIB);
      }
    };
    const stream = await dial(never());
    expect(await still(() => given)).toBeLessThanOrEqual(DIAL_WINDOW_BYTES + 64 * KIB);
    expect((await joined(stream)).length).toBe(total);
  });

  test("fails as the port does, before the first byte and after it", async () => {
    const refuses = new WarrenError("wrong_state", "nothing listens on port 80", { details: { listening: [22] } });
    program = () => {
      throw refuses;
    };
    const error = await fails("wrong_state", dial("x"));
    expect([error.message, error.details["listening"]]).toEqual([refuses.message, [22]]);
    program = async function* () {
      yield new Uint8Array(3);
      throw new WarrenError("sandbox_lost", "it is gone");
    };
    const stream = (await dial(never()))[Symbol.asyncIterator]();
    expect((await stream.next()).value?.length).toBe(3);
    await fails("sandbox_lost", stream.next());
  });

  test("refuses a wrong key and an unknown sandbox by their own names", async () => {
    const { host } = connect({ url: api.url, key: "wrn_not-a-key" });
    await fails("unauthorized", host.dial({ id, port: 80, body: "" }));
    await fails("not_found", client.host.dial({ id: "sb_nothere", port: 80, body: "" }));
    await fails("invalid_request", client.host.dial({ id, port: 0, body: "" }));
    const gone = connect({ url: "http://127.0.0.1:9", key });
    await fails("connection_failed", gone.host.dial({ id, port: 80, body: "" }));
  });

  test("that is left, aborted or broken off ends it in the sandbox too", async () => {
    let over = 0;
    program = async function* (said, signal) {
      signal.addEventListener("abort", () => (over += 1), { once: true });
      yield new Uint8Array(1);
      for await (const _ of said);
      await new Promise(() => undefined);
    };
    const left = (await dial(never()))[Symbol.asyncIterator]();
    await left.next();
    await left.return?.();
    await until("it was left", () => over === 1);

    const unread = (await dial(never()))[Symbol.asyncIterator]();
    await unread.return?.();
    await until("it was left unread", () => over === 2);

    const abort = new AbortController();
    const aborted = (await dial(never(), abort.signal))[Symbol.asyncIterator]();
    await aborted.next();
    const next = fails("cancelled", aborted.next());
    abort.abort();
    await next;
    await until("it was aborted", () => over === 3);
    await fails("cancelled", dial("", AbortSignal.abort()));

    async function* broken() {
      yield new Uint8Array(1);
      throw new Error("the source broke");
    }
    const half = (await dial(broken()))[Symbol.asyncIterator]();
    const reading = (async () => {
      for (;;) if ((await half.next()).done === true) return;
    })();
    await expect(reading).rejects.toThrow("the source broke");
    await until("it was broken off", () => over === 4);
  });

  test("has its key in the query where a WebSocket takes no headers, and is refused where there are none", async () => {
    program = async function* () {
      yield new Uint8Array(5);
    };
    const opened: string[] = [];
    const runtime = (socket: Runtime["socket"]) => async (): Promise<Runtime> => ({
      fetch: (url, init) => fetch(url, init),
      streamsUploads: true,
      socket,
    });
    const server = { url: api.url, key, timeoutMs: 5_000, clock: systemClock };
    const open = (url: string) => {
      opened.push(url);
      return new WebSocket(url);
    };
    const plain = hostOf({ ...server, runtime: runtime({ takesHeaders: false, open }) });
    expect((await joined(await plain.dial({ id, port: 80, body: "" }))).length).toBe(5);
    expect(opened[0]).toContain(`access_token=${key}`);
    const none = hostOf({ ...server, runtime: runtime(null) });
    await fails("unsupported", none.dial({ id, port: 80, body: "" }));
  });
});

test("dialText takes anything", () => {
  for (const text of ["", "null", "[]", "1", '"end"', "{}", '{"took":-1}', '{"took":1.5}', '{"end":"yes"}', "{"])
    expect(dialText(text)).toEqual({ kind: "unknown" });
  expect(dialText('{"took":12}')).toEqual({ kind: "took", bytes: 12 });
  expect(dialText('{"error":"no","end":true}')).toMatchObject({ kind: "error" });
});
