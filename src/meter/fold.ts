/**
 * From moves to what was used: a pure fold in integers. Each instant is taken down to a whole millisecond before anything
 * is subtracted, so that cutting time anywhere and adding the parts gives the whole, exactly.
 */
import type { Move } from "../contract/move.ts";
import type { SandboxState } from "../contract/routes/sandboxes.ts";
import type { MeterName } from "./meters.ts";

/** What is charged in each state, by which size. A new state does not compile until this has decided on it. */
export const CHARGED = {
  /** The guest does not run yet; the move to `running` carries the instant at which it first does. */
  creating: {},
  running: { vcpu_ms: "cpu", memory_mib_ms: "memoryMib" },
  paused: { paused_memory_mib_ms: "memoryMib" },
  /** Nothing of its own: its image is charged as what is kept on disk. */
  hibernated: {},
  /** Ending is our time, not the caller's. */
  stopping: {},
  deleted: {},
  failed: {},
} as const satisfies Record<SandboxState, Partial<Record<MeterName, "cpu" | "memoryMib">>>;

/** Those that moves tell of. */
export const MOVE_METERS = [
  "vcpu_ms",
  "memory_mib_ms",
  "paused_memory_mib_ms",
  "egress_bytes",
  "creates",
  "cpu_used_ms",
] as const satisfies readonly MeterName[];
export type MoveMeter = (typeof MOVE_METERS)[number];

/** Meter → how much, in its unit. Counts (the last three) belong to the instant of their move. */
export type Usage = Readonly<Record<MoveMeter, bigint>>;

function each(quantity: (meter: MoveMeter) => bigint): Usage {
  return Object.fromEntries(MOVE_METERS.map((meter) => [meter, quantity(meter)])) as Usage;
}

export const NOTHING: Usage = each(() => 0n);

/** Milliseconds of the sandbox's own axis: from (inclusive) to (exclusive). */
export interface Window {
  readonly fromMs?: number;
  /** Needed for sandboxes that have not ended: they are charged up to here. */
  readonly toMs?: number;
}

export function add(a: Usage, b: Usage): Usage {
  return each((meter) => a[meter] + b[meter]);
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
    if (isInside(move, window)) sum = add(sum, counts(move));
    last.set(move.sandbox, move);
  }
  if (window.toMs !== undefined) for (const move of last.values()) sum = add(sum, charge(move, window.toMs, window));
  return sum;
}

/** So much time of a sandbox of this size, as it runs. */
export function running({ cpu, memoryMib }: Pick<Move, "cpu" | "memoryMib">, ms: bigint): Usage {
  return { ...NOTHING, vcpu_ms: BigInt(cpu) * ms, memory_mib_ms: BigInt(memoryMib) * ms };
}

/** From a move to the instant the state it led to was left. */
function charge(move: Move, untilMs: number, { fromMs, toMs }: Window): Usage {
  const start = whole(Math.max(move.monotonicMs, fromMs ?? move.monotonicMs));
  const end = whole(Math.min(untilMs, toMs ?? untilMs));
  if (end <= start) return NOTHING;
  const charged: Partial<Record<MoveMeter, "cpu" | "memoryMib">> = CHARGED[move.to];
  return each((meter) => {
    const size = charged[meter];
    return size === undefined ? 0n : (end - start) * BigInt(move[size]);
  });
}

/** A create is a first instruction: what wakes or goes on was made before. */
function counts({ from, to, network, cpuUsedMs }: Move): Usage {
  return {
    ...NOTHING,
    egress_bytes: BigInt(network?.bytesOut ?? 0),
    creates: to === "running" && (from ?? "creating") === "creating" ? 1n : 0n,
    cpu_used_ms: whole(cpuUsedMs ?? 0),
  };
}

function isInside({ monotonicMs }: Move, { fromMs, toMs }: Window): boolean {
  return monotonicMs >= (fromMs ?? monotonicMs) && (toMs === undefined || monotonicMs < toMs);
}

function whole(ms: number): bigint {
  return BigInt(Math.floor(ms));
}
