/**
 * One row of the log of lifecycle moves: what the engine writes and billing folds. It is complete by itself (size
 * included), so that a fold needs nothing but the rows.
 */
import { type Static, Type } from "@sinclair/typebox";
import { SandboxState } from "./routes/sandboxes.ts";

export const Move = Type.Object({
  sandbox: Type.String(),
  account: Type.String(),
  template: Type.String(),
  cpu: Type.Integer(),
  memoryMib: Type.Integer(),
  /** 1, 2, 3 … per sandbox, without a gap. */
  sequence: Type.Integer({ minimum: 1 }),
  /** Null for the first row of a sandbox. */
  from: Type.Union([SandboxState, Type.Null()]),
  to: SandboxState,
  /** The event that caused it; `created` for the first row. */
  event: Type.String(),
  reason: Type.Union([Type.String(), Type.Null()]),
  /** What it had sent and received since it last began to run; only of a move that ends that, and where there was a network. */
  network: Type.Optional(
    Type.Object({ bytesOut: Type.Integer(), bytesIn: Type.Integer(), connections: Type.Integer() }),
  ),
  /** The engine's monotonic clock, fractional milliseconds: durations and bills. Never decreases along a sandbox. */
  monotonicMs: Type.Number(),
  /** Milliseconds since the Unix epoch at the same instant: for people. */
  wallMs: Type.Number(),
});
export type Move = Static<typeof Move>;
