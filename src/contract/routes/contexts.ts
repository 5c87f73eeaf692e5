/** Code contexts: interpreters in a sandbox whose variables live on from cell to cell, and in every fork of the sandbox. */
import { type Static, Type } from "@sinclair/typebox";
import { LIMITS } from "../../limits.ts";
import type { Contract } from "../route.ts";
import { ById, Environment } from "./sandboxes.ts";

const SandboxId = Type.String({ minLength: 1, maxLength: 64 });
const Number0 = Type.Integer({ minimum: 0 });

export const ContextCreate = Type.Object(
  {
    id: SandboxId,
    /** Default and only choice. */
    language: Type.Optional(Type.Literal("python")),
    /** Default: the sandbox's. */
    cwd: Type.Optional(Type.String({ pattern: "^/[^\\u0000]*$", maxLength: LIMITS.pathBytes })),
    env: Type.Optional(Environment),
    /** Name or number from the guest's `/etc/passwd`; default root. */
    user: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
  },
  { additionalProperties: false },
);
export type ContextCreate = Static<typeof ContextCreate>;

export const ContextInfo = Type.Object({
  /** Number within the sandbox, the same in every fork of it. */
  context: Type.Integer(),
  language: Type.Literal("python"),
  /** `dead`: its interpreter has ended by itself, or was ended because a cell could not be interrupted. */
  state: Type.Union([Type.Literal("idle"), Type.Literal("busy"), Type.Literal("dead")]),
  /** Where it was started. */
  cwd: Type.String(),
  /** RFC 3339, UTC. */
  createdAt: Type.String(),
  /** How a dead one ended; else null. */
  exitCode: Type.Union([Type.Integer(), Type.Null()]),
  signal: Type.Union([Type.String(), Type.Null()]),
});
export type ContextInfo = Static<typeof ContextInfo>;

export const ContextRef = Type.Object(
  { id: SandboxId, context: Type.Integer({ minimum: 1 }) },
  { additionalProperties: false },
);

export const CellRun = Type.Object(
  {
    id: SandboxId,
    context: Type.Integer({ minimum: 1 }),
    code: Type.String({ maxLength: LIMITS.cellCodeChars }),
    /** From when its turn comes; default {@link LIMITS.execTimeoutSeconds}. The cell is interrupted then. */
    timeoutSeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: LIMITS.timeoutSecondsMax })),
  },
  { additionalProperties: false },
);
export type CellRun = Static<typeof CellRun>;

/** Representations by MIME type, each as text: an image in base64, JSON as its source. */
export const MimeBundle = Type.Record(Type.String(), Type.String());
export type MimeBundle = Static<typeof MimeBundle>;

export const CellEvent = Type.Union([
  Type.Object({ kind: Type.Literal("stdout"), text: Type.String() }),
  Type.Object({ kind: Type.Literal("stderr"), text: Type.String() }),
  /** Shown by `display`, and each figure that is open at the end of the cell. */
  Type.Object({ kind: Type.Literal("display"), data: MimeBundle }),
  /** The value of the cell's last expression, unless it is None or ends with a semicolon. */
  Type.Object({ kind: Type.Literal("result"), data: MimeBundle }),
  Type.Object({
    kind: Type.Literal("error"),
    name: Type.String(),
    value: Type.String(),
    traceback: Type.Array(Type.String()),
  }),
  Type.Object({
    kind: Type.Literal("end"),
    status: Type.Union(
      (["ok", "error", "timeout", "interrupted", "dead"] as const).map((status) => Type.Literal(status)),
    ),
    /** Cells that the context has run, this one included. */
    executionCount: Number0,
    /** Milliseconds on the guest's monotonic clock, bounded by the host's own measure. */
    durationMs: Type.Number(),
    /** Some of what it printed or showed was dropped. */
    truncated: Type.Boolean(),
    /** How the interpreter ended, when the status is `dead`; else null. */
    exitCode: Type.Union([Type.Integer(), Type.Null()]),
    signal: Type.Union([Type.String(), Type.Null()]),
  }),
]);
export type CellEvent = Static<typeof CellEvent>;

const REACHING = ["invalid_request", "not_found", "wrong_state", "sandbox_lost", "guest_unresponsive"] as const;

export const contextRoutes = {
  createContext: {
    method: "POST",
    path: "/v1/sandboxes/:id/repl/sessions",
    scope: "sandbox:write",
    says: "Start an interpreter that runs cells and keeps its variables",
    input: ContextCreate,
    status: 201,
    returns: ContextInfo,
    errors: [...REACHING, "guest_protocol"],
  },
  contexts: {
    method: "GET",
    path: "/v1/sandboxes/:id/repl/sessions",
    scope: "sandbox:read",
    says: "List code contexts, dead ones too",
    input: ById,
    returns: Type.Array(ContextInfo),
    errors: [...REACHING, "guest_protocol"],
  },
  runCode: {
    method: "POST",
    path: "/v1/sandboxes/:id/repl/sessions/:context/run/stream",
    scope: "sandbox:write",
    says: "Run a cell, after those that were sent before it; leaving the stream interrupts it",
    input: CellRun,
    returns: { events: CellEvent },
    errors: [...REACHING, "context_not_found", "queue_full", "guest_protocol"],
  },
  interruptContext: {
    method: "POST",
    path: "/v1/sandboxes/:id/repl/sessions/:context/interrupt",
    scope: "sandbox:write",
    says: "Interrupt the cell under way; a context that ignores it for two seconds is ended",
    input: ContextRef,
    returns: "nothing",
    errors: [...REACHING, "context_not_found", "guest_protocol"],
  },
  closeContext: {
    method: "DELETE",
    path: "/v1/sandboxes/:id/repl/sessions/:context",
    scope: "sandbox:write",
    says: "End a context and all that it has started",
    input: ContextRef,
    returns: "nothing",
    errors: [...REACHING, "context_not_found", "guest_protocol"],
  },
} as const satisfies Contract;
