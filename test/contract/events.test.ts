/** Streams on the wire: every event comes back as it was, bytes exact or as text that is never cut inside a character. */
import { describe, expect, test } from "bun:test";
import type { TSchema } from "@sinclair/typebox";
import { Kind } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import fc from "fast-check";
import { parse } from "../../src/contract/parse.ts";
import type { Route } from "../../src/contract/route.ts";
import type { ExecEvent } from "../../src/contract/routes/exec.ts";
import { type RowName, table } from "../../src/contract/table.ts";
import { fromBase64, toBase64 } from "../../src/contract/wire/base64.ts";
import type { EventCodec, WireEvent } from "../../src/contract/wire/codec.ts";
import { exitCodeOf, wireOf } from "../../src/contract/wire/wire.ts";
import { isWarrenError } from "../../src/errors.ts";
import { arbitrary } from "../harness/arbitrary.ts";

const streams = (Object.entries(table) as [RowName, Route][]).flatMap(([name, { returns }]) =>
  typeof returns === "object" && !(Kind in returns) && "events" in returns
    ? [{ name, schema: returns.events as TSchema }]
    : [],
);

function eventsOf(name: RowName): EventCodec {
  const { events } = wireOf(name);
  if (events === null) throw new Error(`${name} has no events`);
  return events;
}

const overJson = (event: WireEvent): WireEvent => JSON.parse(JSON.stringify(event)) as WireEvent;

/** What a signal ended has no code of its own. */
function possible(event: unknown): unknown {
  const { kind, exitCode, signal } = event as { kind?: string; exitCode?: number | null; signal?: string | null };
  if (kind !== "exit") return event;
  return { ...(event as object), exitCode: signal === null ? (exitCode ?? 0) : null };
}

describe("events", () => {
  for (const { name, schema } of streams) {
    test(`${name}: each comes back from the wire as it was`, () => {
      const { schemas, encoder, decode } = eventsOf(name);
      fc.assert(
        fc.property(fc.array(arbitrary(schema).map(possible), { maxLength: 6 }), (given) => {
          const one = encoder({ encoding: "base64" });
          const sent = [...given.flatMap((event) => one.encode(event)), ...one.end()].map(overJson);
          for (const { event, data } of sent) {
            if (event === "error") continue; // a timeout, as a stream says it
            const known = schemas[event];
            if (known === undefined) throw new Error(`${event} is in no schema`);
            expect({ event, data, fits: Value.Check(known, data) }).toMatchObject({ fits: true });
          }
          expect(sent.map(decode)).toEqual(given);
        }),
      );
    });

    test(`${name}: an unknown one is no failure, an error is`, () => {
      const { decode } = eventsOf(name);
      expect(decode({ event: "from-the-future", data: { a: 1 } })).toBeNull();
      const data = { error: "sandbox x is gone", code: "sandbox_lost" };
      expect(() => decode({ event: "error", data })).toThrow("sandbox x is gone");
    });
  }
});

type Stream = "stdout" | "stderr";
const pieces = (name: Stream, bytes: Uint8Array, cuts: readonly number[]): ExecEvent[] => {
  const ends = [...new Set([...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort((a, b) => a - b);
  return ends.map((end, at) => ({ kind: name, bytes: bytes.slice(ends[at - 1] ?? 0, end) }));
};

/** What a client that knows only text makes of a command's output. */
function textOf(events: readonly ExecEvent[], name: Stream): { text: string; chunks: string[] } {
  const { encoder } = eventsOf("exec");
  const one = encoder({ cmd: "true" });
  const sent = [...events.flatMap((event) => one.encode(event)), ...one.end()].map(overJson);
  const chunks = sent.filter(({ event }) => event === name).map(({ data }) => (data as { chunk: string }).chunk);
  return { text: chunks.join(""), chunks };
}

describe("exec as text", () => {
  const exit: ExecEvent = {
    kind: "exit",
    ...{ exitCode: 0, signal: null, timedOut: false, stdoutTruncated: false, stderrTruncated: false, durationMs: 5 },
  };
  const cuts = fc.array(fc.nat(), { maxLength: 12 });

  test("is never cut inside a character, wherever the bytes were", () => {
    const text = fc.string({ unit: "binary", maxLength: 40 }).filter((one) => one.isWellFormed());
    fc.assert(
      fc.property(text, text, cuts, cuts, (out, err, outCuts, errCuts) => {
        const [stdout, stderr] = [out, err].map((one) => new TextEncoder().encode(one));
        const outs = pieces("stdout", stdout ?? new Uint8Array(), outCuts);
        const errs = pieces("stderr", stderr ?? new Uint8Array(), errCuts);
        const mixed = outs.flatMap((one, at) => [one, ...(errs[at] === undefined ? [] : [errs[at]])]);
        const events = [...mixed, ...errs.slice(outs.length), exit];
        expect(textOf(events, "stdout").text).toBe(out);
        expect(textOf(events, "stderr").text).toBe(err);
        for (const chunk of textOf(events, "stdout").chunks) expect(chunk.isWellFormed() && chunk !== "").toBe(true);
      }),
    );
  });

  test("of any bytes is what a decoder of all of them would say, and ends with the stream", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), cuts, fc.boolean(), (bytes, at, ends) => {
        const events = [...pieces("stdout", bytes, at), ...(ends ? [exit] : [])];
        expect(textOf(events, "stdout").text).toBe(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
      }),
    );
  });

  test("tells a signal as a shell does", () => {
    expect(exitCodeOf(3, null)).toBe(3);
    expect(exitCodeOf(null, "SIGKILL")).toBe(137);
    expect(exitCodeOf(null, "SIGTERM")).toBe(143);
    expect(exitCodeOf(null, "SIGSYS")).toBe(159);
    expect(exitCodeOf(null, "SIG34")).toBe(162);
  });

  test("ends with an error that says timeout, from which the exit comes back", () => {
    const timedOut: ExecEvent = { ...exit, exitCode: null, signal: "SIGKILL", timedOut: true, durationMs: 5002.5 };
    const { encoder, decode } = eventsOf("exec");
    const [sent] = encoder({ cmd: "sleep 9", timeout_seconds: 5 }).encode(timedOut);
    expect(sent).toMatchObject({
      event: "error",
      data: {
        error: "exec timeout after 5s",
        code: "exec_timeout",
        timed_out: true,
        exit_code: null,
        signal: "SIGKILL",
      },
    });
    expect(decode(overJson(sent as WireEvent))).toEqual(timedOut);
    const [byDefault] = encoder({ cmd: "sleep 999" }).encode(timedOut);
    expect(byDefault?.data).toMatchObject({ error: "exec timeout after 300s" });
  });

  test("of a cell tells an exception as such, as an error would be the stream's own", () => {
    const { encoder, decode } = eventsOf("runCode");
    const failure = { kind: "error", name: "ValueError", value: "no", traceback: ["a", "b"] };
    const [sent] = encoder({}).encode(failure);
    expect(sent?.event).toBe("exception");
    expect(decode(sent as WireEvent)).toEqual(failure);
  });
});

test("A stream's error keeps its code", () => {
  try {
    eventsOf("watch").decode({
      event: "error",
      data: { error: "x", code: "file_not_found", details: { field: "path" } },
    });
    throw new Error("it was no failure");
  } catch (error) {
    expect(isWarrenError(error, "file_not_found") && error.details).toEqual({ field: "path" });
  }
});

describe("base64", () => {
  const plain = { encode: undefined, decode: undefined };

  test("is the same by the runtime's own and without", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 20_000 }), (bytes) => {
        const text = toBase64(bytes);
        expect(text).toBe(Buffer.from(bytes).toString("base64"));
        expect(toBase64(bytes, plain)).toBe(text);
        expect(fromBase64(text)).toEqual(bytes);
        expect(fromBase64(text, plain)).toEqual(bytes);
      }),
    );
  });

  test("is nothing but that", () => {
    for (const text of ["a", "ab", "abc", "ab=c", "====", "YQ==\n", "YQ= =", "Y Q=", "-_-_", "é==="])
      expect({ text, bytes: fromBase64(text) }).toEqual({ text, bytes: null });
    // Bits that stand for nothing are dropped by both.
    expect(fromBase64("YR==")).toEqual(fromBase64("YR==", plain) as Uint8Array);
  });
});

describe("What comes from a hostile peer", () => {
  const names = Object.keys(table) as RowName[];
  const anything = fc.oneof(fc.jsonValue(), fc.dictionary(fc.string(), fc.jsonValue()));

  test("as an input is refused as such, or is one", () => {
    fc.assert(
      fc.property(fc.constantFrom(...names), anything, (name, value) => {
        const { schema, decode } = wireOf(name).input;
        try {
          decode(parse(schema, value));
        } catch (error) {
          expect({ name, value, error, is: isWarrenError(error, "invalid_request") }).toMatchObject({ is: true });
        }
      }),
      { numRuns: 2000 },
    );
  });

  test("as an event is one, none, or an error of ours", () => {
    const event = fc.record({
      event: fc.oneof(fc.string(), fc.constantFrom("error", "exit", "stdout", "end")),
      data: anything,
    });
    fc.assert(
      fc.property(fc.constantFrom(...streams), event, ({ name }, sent) => {
        try {
          eventsOf(name).decode(sent);
        } catch (error) {
          expect({ name, sent, error, is: isWarrenError(error) }).toMatchObject({ is: true });
        }
      }),
      { numRuns: 2000 },
    );
  });
});
