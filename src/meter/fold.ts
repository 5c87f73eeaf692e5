/**
 * From moves to what was used: a pure fold in integers. Each instant is taken down to a whole millisecond before anything
 * is subtracted, so that cutting time anywhere and adding the parts gives the whole, exactly.
 */
import type { Move } from "../contract/move.ts";
import type { SandboxState } from "../contract/routes/sandboxes.ts";

/** What is charged in each state. A new state does not compile until this has decided on it. */
export const CHARGED = {
  /** The guest does not run yet; the move to `running` carries the instant at which it first does. */
  creating: { vcpu: false, memory: false },
  running: { vcpu: true, memory: true },
  paused: { vcpu: false, memory: true },
  hibernated: { vcpu: false, memory: false },
  /** Ending is our time, not the caller's. */
  stopping: { vcpu: false, memory: false },
  deleted: { vcpu: false, memory: false },
  failed: { vcpu: false, memory: false },
} as const satisfies Record<SandboxState, { readonly vcpu: boolean; readonly memory: boolean }>;

export interface Usage {
  /** vCPUs × milliseconds. */
  readonly vcpuMs: bigint;
  /** MiB of guest memory × milliseconds. */
  readonly memoryMibMs: bigint;
  /** IP packets that left the sandboxes for somewhere: bytes, counted when a sandbox stops, at that instant. */
  readonly egressBytes: bigint;
}

export const NOTHING: Usage = { vcpuMs: 0n, memoryMibMs: 0n, egressBytes: 0n };

/** Milliseconds of the engine's monotonic clock: from (inclusive) to (exclusive). */
export interface Window {
  readonly fromMs?: number;
  /** Needed for sandboxes that have not ended: they are charged up to here. */
  readonly toMs?: number;
}

export function add(a: Usage, b: Usage): Usage {
  return {
    vcpuMs: a.vcpuMs + b.vcpuMs,
    memoryMibMs: a.memoryMibMs + b.memoryMibMs,
    egressBytes: a.egressBytes + b.egressBytes,
  };
}

/**
 * What the moves of any number of sandboxes amount to within a window; rows of one sandbox have to be in order.
 * A sandbox whose last state is charged counts up to `toMs`, and not beyond its last move without one.
 */
export function fold(moves: Iterable<Move>, window: Window = {}): Usage {
  const last = new Map<string, Move>();
  let sum = NOTHING;
  for (const move of moves) {
    const before = last.get(move.sandbox);
    if (before !== undefined) sum = add(sum, charge(before, move.monotonicMs, window));
    sum = add(sum, { ...NOTHING, egressBytes: sent(move, window) });
    last.set(move.sandbox, move);
  }
  if (window.toMs !== undefined) for (const move of last.values()) sum = add(sum, charge(move, window.toMs, window));
  return sum;
}

/** From a move to the instant the state it led to was left. */
function charge(move: Move, untilMs: number, { fromMs, toMs }: Window): Usage {
  const start = whole(Math.max(move.monotonicMs, fromMs ?? move.monotonicMs));
  const end = whole(Math.min(untilMs, toMs ?? untilMs));
  if (end <= start) return NOTHING;
  const ms = end - start;
  const { vcpu, memory } = CHARGED[move.to];
  return {
    vcpuMs: vcpu ? ms * BigInt(move.cpu) : 0n,
    memoryMibMs: memory ? ms * BigInt(move.memoryMib) : 0n,
    egressBytes: 0n,
  };
}

function sent({ network, monotonicMs }: Move, { fromMs, toMs }: Window): bigint {
  const inside = monotonicMs >= (fromMs ?? monotonicMs) && (toMs === undefined || monotonicMs < toMs);
  return inside && network !== undefined ? BigInt(network.bytesOut) : 0n;
}

function whole(ms: number): bigint {
  return BigInt(Math.floor(ms));
}
