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
  /** CPU time, in milliseconds, that its VMM had really used by then since its guest began to run, by the host's accounts. */
  cpuUsedMs: Type.Optional(Type.Number({ minimum: 0 })),
  /**
   * Durations and bills, fractional milliseconds; never decreases along a sandbox. From an engine its monotonic clock; from a
   * server the sandbox's own axis: that clock plus the wall clock's lead over it at the sandbox's creation, so milliseconds
   * since the Unix epoch in which a wall clock that jumps changes nothing.
   */
  monotonicMs: Type.Number(),
  /** Milliseconds since the Unix epoch at the same instant: for people. */
  wallMs: Type.Number(),
});
export type Move = Static<typeof Move>;
