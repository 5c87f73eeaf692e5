/** One row of the log of what is kept on disk: from its instant on, something takes so much; 0 when it is gone. For billing. */
import { type Static, Type } from "@sinclair/typebox";

export const StoredKind = Type.Union([
  Type.Literal("snapshot"),
  /** Of a hibernated sandbox, under its id. */
  Type.Literal("image"),
  Type.Literal("volume"),
  /** Of an account's own. */
  Type.Literal("template"),
  /** A clone that is kept ready, by its memory, for the account that asked for it. Ends with its process. */
  Type.Literal("ready"),
  /** A template that is being built, of whatever size but 0 until it is over. Ends with its process. */
  Type.Literal("build"),
]);
export type StoredKind = Static<typeof StoredKind>;

export const Stored = Type.Object({
  kind: StoredKind,
  /** A snapshot's or sandbox's id, a volume's name. */
  id: Type.String(),
  account: Type.String(),
  /** Its own bytes; of a volume those that were asked for. */
  sizeBytes: Type.Integer({ minimum: 0 }),
  /** The engine's monotonic clock, fractional milliseconds. */
  monotonicMs: Type.Number(),
  /** Milliseconds since the Unix epoch at the same instant. */
  wallMs: Type.Number(),
});
export type Stored = Static<typeof Stored>;
