/**
 * Commands on the wire: `cmd` alone is for a shell, and with `args` it is a program; bytes that are not text are in base64.
 * Output is text unless `encoding` asks for base64, and never cut inside a character.
 */
import { Type } from "@sinclair/typebox";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { callRoutes } from "../routes/api/calls.ts";
import { Exec, type ExecEvent, ProcessRef } from "../routes/exec.ts";
import { errorOf } from "../status.ts";
import { fromBase64, toBase64 } from "./base64.ts";
import type { Codec, EventCodec, EventEncoder, ObjectCodec, WireEvent } from "./codec.ts";
import { derive, isRecord, object } from "./derive.ts";
import { refuse, widened } from "./sandbox.ts";

const SIGNALS =
  "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS".split(
    " ",
  );

/** What a shell would say: its own code, or 128 and the number of the signal that ended it. */
export function exitCodeOf(exitCode: number | null, signal: string | null): number {
  if (signal === null) return exitCode ?? 0;
  const number = SIGNALS.indexOf(signal.replace(/^SIG/, "")) + 1;
  return 128 + (number === 0 ? Number(/\d+/.exec(signal)?.[0] ?? 0) : number);
}

/** The sentence that existing clients know a timeout by. */
export function timeoutSentence(seconds: number): string {
  return `exec timeout after ${Number(seconds.toFixed(3))}s`;
}

const Encoding = Type.Union([Type.Literal("utf8"), Type.Literal("base64")], {
  description: "How output travels: as text, or exact in base64",
});
const { argv: _argv, stdin: _stdin, ...execProperties } = Exec.properties;
const execBase = object(Type.Object(execProperties, { additionalProperties: false }), "input");
const Base64 = derive(Type.Uint8Array(), "input").schema;

const wide = widened(execBase, {
  args: Type.Optional(
    Type.Array(Type.String({ pattern: "^[^\\u0000]*$" }), {
      description: "With it, even empty, cmd is a program and no shell is in between",
    }),
  ),
  stdin: Type.Optional(Type.String()),
  stdin_base64: Type.Optional(Base64),
  encoding: Type.Optional(Encoding),
});
const execWide = { ...wide, names: { ...wide.names, argv: "args", stdin: "stdin" } };

function encodeExec(value: unknown, encoding: string | undefined): Record<string, unknown> {
  const { argv, stdin, encoding: _, ...rest } = value as Exec & { encoding?: string };
  if ([rest.cmd, argv, rest.python].filter((command) => command !== undefined).length !== 1)
    throw new WarrenError("invalid_request", "exec needs exactly one of cmd, argv and python");
  const [cmd, ...args] = argv ?? [];
  return {
    ...(execBase.encode(rest) as object),
    ...(argv === undefined ? {} : { cmd, args }),
    ...(stdin === undefined ? {} : typeof stdin === "string" ? { stdin } : { stdin_base64: toBase64(stdin) }),
    ...(encoding === undefined ? {} : { encoding }),
  };
}

function decodeExec(value: unknown): Exec {
  const { args, stdin, stdin_base64, encoding: _, cmd, ...rest } = value as Record<string, unknown>;
  const exec = execBase.decode(rest) as Exec;
  if (rest["python"] !== undefined) {
    if (cmd !== undefined) refuse("cmd", "not together with python");
    if (args !== undefined) refuse("args", "not together with python, which has its own");
  } else if (typeof cmd !== "string") refuse("cmd", "is required");
  else if (args === undefined) exec.cmd = cmd;
  else exec.argv = [cmd, ...(args as string[])];
  if (stdin !== undefined && stdin_base64 !== undefined) refuse("stdin_base64", "not together with stdin");
  if (stdin !== undefined) exec.stdin = stdin as string;
  if (stdin_base64 !== undefined) exec.stdin = fromBase64(stdin_base64 as string) ?? new Uint8Array();
  return exec;
}

/** Of a stream: our client wants every byte. */
export const exec: ObjectCodec = {
  ...execWide,
  encode: (value) => encodeExec(value, "base64"),
  decode: decodeExec,
};

/** Of a command that is waited for: who calls says how its output is to come. */
export const run: ObjectCodec = {
  ...execWide,
  encode: (value) => encodeExec(value, (value as { encoding?: string }).encoding),
  decode(wire) {
    const { encoding } = wire as { encoding?: string };
    const decoded = decodeExec(wire);
    return encoding === undefined ? decoded : { ...decoded, encoding };
  },
};

const refBase = object(ProcessRef, "input");
export const attach: ObjectCodec = {
  ...widened(refBase, { encoding: Type.Optional(Encoding) }),
  encode: (value) => ({ ...(refBase.encode(value) as object), encoding: "base64" }),
  decode: refBase.decode,
};

export const commandResult: Codec = object(callRoutes.run.returns, "result");

type Exit = Extract<ExecEvent, { kind: "exit" }>;

const exitFields = {
  signal: Type.Optional(Type.Union([Type.String(), Type.Null()])),
  duration_ms: Type.Number(),
  stdout_truncated: Type.Optional(Type.Boolean()),
  stderr_truncated: Type.Optional(Type.Boolean()),
};
const Chunk = Type.Object({ chunk: Type.Optional(Type.String()), chunk_base64: Type.Optional(Base64) });

function encodeExit(exit: Exit, timeoutSeconds: number | null): WireEvent {
  const { exitCode, signal } = exit;
  const rest = {
    signal,
    duration_ms: exit.durationMs,
    stdout_truncated: exit.stdoutTruncated,
    stderr_truncated: exit.stderrTruncated,
  };
  if (!exit.timedOut) return { event: "exit", data: { exit_code: exitCodeOf(exitCode, signal), ...rest } };
  const error = timeoutSentence(timeoutSeconds ?? Math.round(exit.durationMs / 1000));
  return { event: "error", data: { error, code: "exec_timeout", timed_out: true, exit_code: exitCode, ...rest } };
}

function decodeExit(data: Record<string, unknown>, timedOut: boolean): Exit {
  const signal = typeof data["signal"] === "string" ? data["signal"] : null;
  return {
    kind: "exit",
    exitCode: signal === null && typeof data["exit_code"] === "number" ? data["exit_code"] : null,
    signal,
    timedOut,
    stdoutTruncated: data["stdout_truncated"] === true,
    stderrTruncated: data["stderr_truncated"] === true,
    durationMs: Number(data["duration_ms"] ?? 0),
  };
}

/** Text of one stream, whole characters only. */
function textOf(name: "stdout" | "stderr"): { next(bytes: Uint8Array): WireEvent[]; end(): WireEvent[] } {
  let decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const event = (chunk: string): WireEvent[] => (chunk === "" ? [] : [{ event: name, data: { chunk } }]);
  return {
    next: (bytes) => event(decoder.decode(bytes, { stream: true })),
    end: () => {
      const last = event(decoder.decode());
      decoder = new TextDecoder("utf-8", { ignoreBOM: true });
      return last;
    },
  };
}

function encoder(input: unknown): EventEncoder {
  const asked = isRecord(input) ? input : {};
  const inBase64 = asked["encoding"] === "base64";
  const given = asked["timeout_seconds"];
  const follows = !("process" in asked);
  const timeoutSeconds = typeof given === "number" ? given : follows ? LIMITS.execTimeoutSeconds : null;
  const texts = { stdout: textOf("stdout"), stderr: textOf("stderr") };
  const end = (): WireEvent[] => [...texts.stdout.end(), ...texts.stderr.end()];
  const encode = (value: unknown): WireEvent[] => {
    const event = value as ExecEvent;
    switch (event.kind) {
      case "started":
        return [{ event: "started", data: { process: event.process, pid: event.pid } }];
      case "stdout":
      case "stderr":
        if (!inBase64) return texts[event.kind].next(event.bytes);
        return [{ event: event.kind, data: { chunk_base64: toBase64(event.bytes) } }];
      case "gap":
        return [...end(), { event: "gap", data: { bytes: event.bytes } }];
      case "exit":
        return [...end(), encodeExit(event, timeoutSeconds)];
    }
  };
  return { encode, end };
}

function decodeEvent({ event, data: given }: WireEvent): ExecEvent | null {
  const data = isRecord(given) ? given : {};
  switch (event) {
    case "started":
      return { kind: "started", process: Number(data["process"]), pid: Number(data["pid"]) };
    case "stdout":
    case "stderr": {
      const { chunk, chunk_base64 } = data;
      if (typeof chunk_base64 === "string") return { kind: event, bytes: fromBase64(chunk_base64) ?? new Uint8Array() };
      return typeof chunk === "string" ? { kind: event, bytes: new TextEncoder().encode(chunk) } : null;
    }
    case "gap":
      return { kind: "gap", bytes: Number(data["bytes"]) };
    case "exit":
      return decodeExit(data, false);
    case "error":
      if (data["timed_out"] === true) return decodeExit(data, true);
      throw errorOf(null, given);
    default:
      return null;
  }
}

export const execEvents: EventCodec = {
  schemas: {
    started: Type.Object({ process: Type.Integer(), pid: Type.Integer() }),
    stdout: Chunk,
    stderr: Chunk,
    gap: Type.Object({ bytes: Type.Integer({ description: "Produced, and no longer kept" }) }),
    exit: Type.Object({
      exit_code: Type.Integer({ description: "128 and the signal's number, after one" }),
      ...exitFields,
    }),
  },
  encoder,
  decode: decodeEvent,
};
