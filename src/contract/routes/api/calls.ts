/** Operations that only the API has: the same things in the shape that its clients ask for, and what a server keeps. */
import { type Static, Type } from "@sinclair/typebox";
import { LIMITS } from "../../../limits.ts";
import type { Contract } from "../../route.ts";
import { ContextRef, MimeBundle } from "../contexts.ts";
import { Exec, ProcessRef, TerminalSize } from "../exec.ts";
import { ById, TemplateName } from "../sandboxes.ts";
import { TemplateInfo } from "../templates.ts";

const REACHING = ["invalid_request", "not_found", "wrong_state", "sandbox_lost", "guest_unresponsive"] as const;
const SandboxId = ById.properties.id;
const Port = Type.Integer({ minimum: 1, maximum: 65_535 });
const Flag = Type.Optional(Type.Boolean());

/** What a command did, whole. */
export const CommandResult = Type.Object({
  stdout: Type.String(),
  stderr: Type.String(),
  /** Exact bytes in base64; only when asked with `encoding: "base64"`. */
  stdoutBase64: Type.Optional(Type.String()),
  stderrBase64: Type.Optional(Type.String()),
  /** 128 and the signal's number when a signal ended it; 0 of one in the background. */
  exitCode: Type.Integer(),
  signal: Type.Union([Type.String(), Type.Null()]),
  durationMs: Type.Number(),
  /** Some output was over the limit and is not here. */
  truncated: Type.Boolean(),
  /** In the guest; of a command in the background, with its number for `processes`. */
  pid: Type.Optional(Type.Integer()),
  process: Type.Optional(Type.Integer()),
});
export type CommandResult = Static<typeof CommandResult>;

/** What a cell did, whole. */
export const CodeResult = Type.Object({
  /** One flat map from MIME type to text for each value shown. */
  results: Type.Array(MimeBundle),
  stdout: Type.String(),
  stderr: Type.String(),
  /** 0, or 1 when it failed. */
  exitCode: Type.Integer(),
  /** The traceback of a cell that failed. */
  error: Type.Optional(Type.String()),
  durationMs: Type.Number(),
  truncated: Type.Boolean(),
});
export type CodeResult = Static<typeof CodeResult>;

const Code = Type.String({ maxLength: LIMITS.cellCodeChars });
const TimeoutMs = Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: LIMITS.timeoutSecondsMax * 1000 }));
export const Language = Type.Union([Type.Literal("python"), Type.Literal("shell")]);

export const LogLine = Type.Object({ line: Type.String() });

/** One step of a sandbox's life, kept after its end. */
export const SandboxEventInfo = Type.Object({
  sequence: Type.Integer(),
  at: Type.String(),
  type: Type.String(),
  from: Type.Union([Type.String(), Type.Null()]),
  to: Type.String(),
  reason: Type.Union([Type.String(), Type.Null()]),
});
export type SandboxEventInfo = Static<typeof SandboxEventInfo>;

/** One that a program listens on, or that was given a label. */
export const ExposedPort = Type.Object({
  port: Type.Integer(),
  label: Type.Optional(Type.String()),
  listening: Type.Boolean(),
  source: Type.Union([Type.Literal("detected"), Type.Literal("declared")]),
  url: Type.String(),
});
export type ExposedPort = Static<typeof ExposedPort>;

export const PreviewToken = Type.Object({ url: Type.String(), token: Type.String(), expiresAt: Type.String() });

export const callRoutes = {
  run: {
    method: "POST",
    path: "/v1/sandboxes/:id/exec",
    scope: "sandbox:write",
    says: "Run a command to its end and answer with its output; one in the background is answered when it has started",
    input: Type.Composite(
      [Exec, Type.Object({ encoding: Type.Optional(Type.Union([Type.Literal("utf8"), Type.Literal("base64")])) })],
      { additionalProperties: false },
    ),
    returns: CommandResult,
    errors: [...REACHING, "guest_protocol", "exec_timeout"],
  },
  execSocket: {
    method: "GET",
    path: "/v1/sandboxes/:id/exec/ws",
    scope: "sandbox:write",
    says: "Many commands over one WebSocket, with stdin, signals and cancel",
    input: ById,
    returns: "socket",
    errors: ["not_found", "wrong_state"],
  },
  terminal: {
    method: "GET",
    path: "/v1/sandboxes/:id/exec/pty",
    aliases: ["/v1/sandboxes/:id/ssh"],
    scope: "sandbox:write",
    says: "A terminal over a WebSocket: binary frames are keystrokes and output, text frames resize and exit",
    input: Type.Object(
      {
        id: SandboxId,
        rows: Type.Optional(TerminalSize.properties.rows),
        cols: Type.Optional(TerminalSize.properties.cols),
        /** Default: the shell of the guest. */
        cmd: Type.Optional(Type.String({ pattern: "^[^\\u0000]*$" })),
        cwd: Exec.properties.cwd,
        user: Exec.properties.user,
        /** A terminal that was left without being ended, by its number. */
        process: Type.Optional(Type.Integer({ minimum: 1 })),
      },
      { additionalProperties: false },
    ),
    returns: "socket",
    errors: [...REACHING, "process_not_found"],
  },
  kill: {
    method: "DELETE",
    path: "/v1/sandboxes/:id/processes/:process",
    scope: "sandbox:write",
    says: "Signal a command, SIGKILL unless said otherwise",
    input: Type.Composite(
      [ProcessRef, Type.Object({ signal: Type.Optional(Type.String({ pattern: "^(SIG[A-Z0-9]+|\\d{1,2})$" })) })],
      { additionalProperties: false },
    ),
    returns: "nothing",
    errors: [...REACHING, "process_not_found"],
  },
  runFresh: {
    method: "POST",
    path: "/v1/sandboxes/:id/repl",
    scope: "sandbox:write",
    says: "Run code in an interpreter of its own, which ends with it",
    input: Type.Object(
      { id: SandboxId, language: Type.Optional(Language), code: Code, timeoutMs: TimeoutMs },
      { additionalProperties: false },
    ),
    returns: CodeResult,
    errors: [...REACHING, "guest_protocol", "exec_timeout"],
  },
  runCell: {
    method: "POST",
    path: "/v1/sandboxes/:id/repl/sessions/:context/run",
    scope: "sandbox:write",
    says: "Run a cell to its end and answer with all it printed and showed",
    input: Type.Composite([ContextRef, Type.Object({ code: Code, timeoutMs: TimeoutMs })], {
      additionalProperties: false,
    }),
    returns: CodeResult,
    errors: [...REACHING, "context_not_found", "queue_full", "guest_protocol", "exec_timeout"],
  },
  logs: {
    method: "GET",
    path: "/v1/sandboxes/:id/logs",
    scope: "sandbox:read",
    says: "Read the last lines that commands of a sandbox printed (`exec`), or its kernel's (`kernel`); `follow` goes on",
    input: Type.Object(
      {
        id: SandboxId,
        stream: Type.Optional(
          Type.Union([Type.Literal("exec"), Type.Literal("stdout"), Type.Literal("stderr"), Type.Literal("kernel")]),
        ),
        follow: Flag,
      },
      { additionalProperties: false },
    ),
    returns: { events: LogLine },
    errors: ["invalid_request", "not_found", "wrong_state", "sandbox_lost"],
  },
  events: {
    method: "GET",
    path: "/v1/sandboxes/:id/events",
    scope: "sandbox:read",
    says: "Read the last steps of a sandbox's life, also after its end; `follow` goes on as server-sent events",
    input: Type.Object(
      { id: SandboxId, tail: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })), follow: Flag },
      { additionalProperties: false },
    ),
    returns: { events: SandboxEventInfo },
    errors: ["invalid_request", "not_found"],
  },
  exposedPorts: {
    method: "GET",
    path: "/v1/sandboxes/:id/ports",
    scope: "sandbox:read",
    says: "Ports that programs listen on or that were given a label, each with its URL",
    input: ById,
    returns: Type.Array(ExposedPort),
    errors: REACHING,
  },
  exposePort: {
    method: "POST",
    path: "/v1/sandboxes/:id/ports",
    scope: "sandbox:write",
    status: 201,
    says: "Give a port a label",
    input: Type.Object(
      { id: SandboxId, port: Port, label: Type.Optional(Type.String({ maxLength: 128 })) },
      { additionalProperties: false },
    ),
    returns: ExposedPort,
    errors: REACHING,
  },
  unexposePort: {
    method: "DELETE",
    path: "/v1/sandboxes/:id/ports/:port",
    scope: "sandbox:write",
    says: "Forget a port's label",
    input: Type.Object({ id: SandboxId, port: Port }, { additionalProperties: false }),
    returns: "nothing",
    errors: ["not_found"],
  },
  previewToken: {
    method: "POST",
    path: "/v1/sandboxes/:id/preview-token",
    scope: "sandbox:write",
    status: 201,
    says: "Make a URL by which anyone reaches a port for a time, all of it or the named paths",
    input: Type.Object(
      {
        id: SandboxId,
        port: Port,
        ttlSeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 30 * 24 * 3600 })),
        /** Exact paths (`/report.html`), or all below one (`/static/*`). */
        paths: Type.Optional(Type.Array(Type.String({ pattern: "^/", maxLength: 1024 }), { maxItems: 64 })),
      },
      { additionalProperties: false },
    ),
    returns: PreviewToken,
    errors: ["invalid_request", "not_found"],
  },
  template: {
    method: "GET",
    path: "/v1/templates/:name",
    scope: "template:read",
    says: "Read one template",
    input: Type.Object({ name: TemplateName }, { additionalProperties: false }),
    returns: TemplateInfo,
    errors: ["template_not_found"],
  },
  bootStats: {
    method: "GET",
    path: "/v1/stats/boot",
    scope: "sandbox:read",
    says: "How long the last creates of this server took, by path, in milliseconds",
    input: Type.Object({}, { additionalProperties: false }),
    returns: Type.Array(
      Type.Object({
        path: Type.String(),
        count: Type.Integer(),
        p50Ms: Type.Number(),
        p90Ms: Type.Number(),
        p99Ms: Type.Number(),
        maxMs: Type.Number(),
      }),
    ),
    errors: [],
  },
} as const satisfies Contract;
