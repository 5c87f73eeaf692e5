/** Commands in a sandbox: run, streamed, in the background, re-attached, signalled. */
import { type Static, Type } from "@sinclair/typebox";
import { LIMITS } from "../../limits.ts";
import { Bytes } from "../bytes.ts";
import type { Contract } from "../route.ts";
import { ById, Environment } from "./sandboxes.ts";

const Text = Type.String({ pattern: "^[^\\u0000]*$" });
const GuestPath = Type.String({ pattern: "^/[^\\u0000]*$", maxLength: LIMITS.pathBytes });

/** Where Python source is written in the guest when a call names no path. */
export const PYTHON_PATH = "/work/item.py";

/** Python from the template's warm interpreter, with the semantics of `python3 FILE`. */
export const PythonRun = Type.Object(
  {
    /** Source text, written to `path` first; without it `path` has to exist. */
    code: Type.Optional(Type.String()),
    /** Default {@link PYTHON_PATH}. */
    path: Type.Optional(GuestPath),
    args: Type.Optional(Type.Array(Text)),
  },
  { additionalProperties: false },
);
export type PythonRun = Static<typeof PythonRun>;

/** Of a terminal, in characters. */
export const TerminalSize = Type.Object(
  { rows: Type.Integer({ minimum: 1, maximum: 1000 }), cols: Type.Integer({ minimum: 1, maximum: 1000 }) },
  { additionalProperties: false },
);
export type TerminalSize = Static<typeof TerminalSize>;

export const Exec = Type.Object(
  {
    id: Type.String({ minLength: 1, maxLength: 64 }),
    /** One `sh -c` string. Exactly one of `cmd`, `argv`, `python`. */
    cmd: Type.Optional(Text),
    argv: Type.Optional(Type.Array(Text, { minItems: 1 })),
    python: Type.Optional(PythonRun),
    cwd: Type.Optional(GuestPath),
    env: Type.Optional(Environment),
    /** Name or number from the guest's `/etc/passwd`; default root. */
    user: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    /** Given at once and then closed; without it stdin is empty unless `stdinOpen`. */
    stdin: Type.Optional(Type.Union([Type.String(), Bytes])),
    /** Keeps stdin open for the `stdin` call. */
    stdinOpen: Type.Optional(Type.Boolean()),
    /**
     * Enforced inside the guest on everything the command started; default {@link LIMITS.execTimeoutSeconds}, and none for
     * a command in the background, which may run as long as its sandbox.
     */
    timeoutSeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: LIMITS.timeoutSecondsMax })),
    /** Bytes kept of stdout and of stderr each. */
    outputLimitBytes: Type.Optional(Type.Integer({ minimum: 0, maximum: LIMITS.outputBytesMax })),
    /** Runs in a terminal of this size: its output is all `stdout`, keystrokes are its stdin; implies `stdinOpen`. */
    terminal: Type.Optional(TerminalSize),
    /** Returns after `started`; the command goes on, its output in a bounded ring. */
    background: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
);
export type Exec = Static<typeof Exec>;

export const ExecEvent = Type.Union([
  Type.Object({ kind: Type.Literal("started"), process: Type.Integer(), pid: Type.Integer() }),
  Type.Object({ kind: Type.Literal("stdout"), bytes: Bytes }),
  Type.Object({ kind: Type.Literal("stderr"), bytes: Bytes }),
  /** `attach` only: so many bytes were produced and are no longer in the ring. */
  Type.Object({ kind: Type.Literal("gap"), bytes: Type.Integer() }),
  Type.Object({
    kind: Type.Literal("exit"),
    /** Null when a signal ended it. */
    exitCode: Type.Union([Type.Integer(), Type.Null()]),
    /** For instance `SIGKILL`. */
    signal: Type.Union([Type.String(), Type.Null()]),
    timedOut: Type.Boolean(),
    stdoutTruncated: Type.Boolean(),
    stderrTruncated: Type.Boolean(),
    /** Milliseconds on the guest's monotonic clock, bounded by the host's own measure. */
    durationMs: Type.Number(),
  }),
]);
export type ExecEvent = Static<typeof ExecEvent>;

export const ProcessRef = Type.Object(
  { id: Type.String({ minLength: 1, maxLength: 64 }), process: Type.Integer({ minimum: 1 }) },
  { additionalProperties: false },
);

export const ProcessInfo = Type.Object({
  process: Type.Integer(),
  pid: Type.Integer(),
  command: Type.String(),
  background: Type.Boolean(),
  running: Type.Boolean(),
  exitCode: Type.Union([Type.Integer(), Type.Null()]),
  signal: Type.Union([Type.String(), Type.Null()]),
});
export type ProcessInfo = Static<typeof ProcessInfo>;

export const execRoutes = {
  exec: {
    method: "POST",
    path: "/v1/sandboxes/:id/exec/stream",
    scope: "sandbox:write",
    says: "Run a command and stream its output; leaving the stream ends the command unless it is in the background",
    input: Exec,
    returns: { events: ExecEvent },
    errors: [
      "invalid_request",
      "not_found",
      "wrong_state",
      "sandbox_lost",
      "guest_protocol",
      "guest_unresponsive",
      "unsupported",
    ],
  },
  stdin: {
    method: "POST",
    path: "/v1/sandboxes/:id/processes/:process/stdin",
    scope: "sandbox:write",
    says: "Write to a command's stdin; an empty body closes it",
    input: ProcessRef,
    upload: true,
    returns: "nothing",
    errors: ["not_found", "process_not_found", "wrong_state", "sandbox_lost"],
  },
  processes: {
    method: "GET",
    path: "/v1/sandboxes/:id/processes",
    scope: "sandbox:read",
    says: "List commands, background ones kept after their end",
    input: ById,
    returns: Type.Array(ProcessInfo),
    errors: ["not_found", "wrong_state", "sandbox_lost"],
  },
  attach: {
    method: "GET",
    path: "/v1/sandboxes/:id/processes/:process",
    scope: "sandbox:read",
    says: "Replay what the ring still holds of a background command, then follow it to its end",
    input: ProcessRef,
    returns: { events: ExecEvent },
    errors: ["not_found", "process_not_found", "wrong_state", "sandbox_lost"],
  },
  resizeTerminal: {
    method: "POST",
    path: "/v1/sandboxes/:id/processes/:process/resize",
    scope: "sandbox:write",
    says: "Tell a command's terminal its new size",
    input: Type.Composite([ProcessRef, TerminalSize], { additionalProperties: false }),
    returns: "nothing",
    errors: ["invalid_request", "not_found", "process_not_found", "wrong_state", "sandbox_lost", "unsupported"],
  },
  signal: {
    method: "POST",
    path: "/v1/sandboxes/:id/processes/:process/signal",
    scope: "sandbox:write",
    says: "Send a signal to a command and everything it started",
    input: Type.Object(
      {
        id: Type.String({ minLength: 1, maxLength: 64 }),
        process: Type.Integer({ minimum: 1 }),
        /** Number or name, for instance 15 or `SIGTERM`. */
        signal: Type.Union([Type.Integer({ minimum: 1, maximum: 64 }), Type.String({ pattern: "^SIG[A-Z0-9]+$" })]),
      },
      { additionalProperties: false },
    ),
    returns: "nothing",
    errors: ["invalid_request", "not_found", "process_not_found", "wrong_state", "sandbox_lost"],
  },
} as const satisfies Contract;
