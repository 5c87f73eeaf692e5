/**
 * What is said on a keeper's control socket: one line of JSON each way, then the connection is over. Only root can open the
 * socket; what comes is held to these schemas all the same.
 *
 * Every version reads every other's envelope: `protocol`, `program` and whether to end; the rest is read only where the
 * protocol is the same.
 */
import { type Static, type TSchema, Type } from "@sinclair/typebox";
import packageJson from "../../package.json" with { type: "json" };
import { parse } from "../contract/parse.ts";
import { Egress, NetworkEvent, NetworkInfo, Secrets } from "../contract/routes/network.ts";
import { ERRORS, type ErrorCode, WarrenError } from "../errors.ts";
import { thisSpace } from "../host/slots/process-name.ts";

/** Changes whenever a question or an answer does. */
export const PROTOCOL = 1;
export const PROGRAM: string = packageJson.version;

/** In the home. Pids and addresses mean something in their namespaces alone: each has a keeper of its own. */
export function socketName(): string {
  return `keeper-${thisSpace()}.sock`;
}

const Id = Type.String({ minLength: 1, maxLength: 64 });

const Ref = Type.Object({
  id: Id,
  pid: Type.Integer({ minimum: 1 }),
  startTicks: Type.Integer({ minimum: 0 }),
  hostBootId: Type.String({ maxLength: 64 }),
  socketDir: Type.String({ maxLength: 4096 }),
});

export const Question = Type.Union([
  Type.Object({
    kind: Type.Literal("open"),
    sandbox: Type.Object({ id: Id, ref: Ref, egress: Egress, secrets: Secrets }, { additionalProperties: false }),
  }),
  Type.Object({ kind: Type.Literal("change"), id: Id, egress: Egress }),
  Type.Object({ kind: Type.Literal("log"), id: Id }),
]);
export type Question = Static<typeof Question>;

/** What each kind of question is answered with. */
export const ANSWERS = {
  open: Type.Object({ certificatePem: Type.Union([Type.String(), Type.Null()]) }),
  change: Type.Object({ usage: NetworkInfo.properties.usage }),
  log: Type.Object({ events: Type.Array(NetworkEvent), lost: Type.Integer() }),
} as const satisfies Record<Question["kind"], TSchema>;
export type Answers = { readonly [K in Question["kind"]]: Static<(typeof ANSWERS)[K]> };

export const Envelope = Type.Object({
  protocol: Type.Integer(),
  program: Type.String({ maxLength: 64 }),
  /** `idle`: end if there is nothing to keep; `now`: end. Then nothing else is asked. */
  end: Type.Optional(Type.Union([Type.Literal("idle"), Type.Literal("now")])),
  /** Null: only who is there. */
  question: Type.Unknown(),
});
export type Envelope = Static<typeof Envelope>;

export const Reply = Type.Union([
  Type.Object({ kind: Type.Literal("answer"), answer: Type.Unknown() }),
  Type.Object({ kind: Type.Literal("refusal"), code: Type.String(), message: Type.String(), details: Type.Unknown() }),
  /** It ends now: another may be started. */
  Type.Object({ kind: Type.Literal("ending") }),
  /** Who is there, of which version, and for how many sandboxes it stays. */
  Type.Object({
    kind: Type.Literal("here"),
    protocol: Type.Integer(),
    program: Type.String(),
    pid: Type.Integer(),
    sandboxes: Type.Integer(),
  }),
]);
export type Reply = Static<typeof Reply>;

/** @throws {WarrenError} `invalid_request` – no JSON, or not of this form */
export function decode<S extends TSchema>(schema: S, text: string): Static<S> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new WarrenError("invalid_request", "the line is no JSON", { cause });
  }
  return parse(schema, value);
}

export function encode(message: Envelope | Reply): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(message)}\n`);
}

/** What a refusal says, as an error of the one who asked. */
export function errorOf({ code, message, details }: Extract<Reply, { kind: "refusal" }>): WarrenError {
  const known = Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : "internal";
  const facts = typeof details === "object" && details !== null ? { details: { ...details } } : {};
  return new WarrenError(known, message, facts);
}
