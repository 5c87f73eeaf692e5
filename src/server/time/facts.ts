/** What the home and the kernel know of sandboxes beside the engine: it outlives every server, and so do bills made of it. */
import type { VmmRun } from "../../api/billing.ts";
import type { KnownEnd } from "../../api/store.ts";
import type { Move } from "../../contract/move.ts";
import type { EndedRun } from "../../host/home/ends.ts";
import type { ServedAxis } from "../../host/home/served-axis.ts";

/** A sandbox that no engine of this process has made. */
export interface FoundTime {
  /** What is added to this boot's monotonic clock: the sandbox's axis of time. */
  readonly axisMs: number;
  /** On the axis: since when it is in the state that it is found in; null where nobody noted it. */
  readonly sinceMs: number | null;
  /** On the axis: the end of its lifetime. */
  readonly endsMs: number | null;
}

export interface Pulse {
  /** CPU time that its VMM has used since its guest began to run; null where the host does not tell. */
  readonly cpuUsedMs: number | null;
  /** The end of its lifetime, on its axis. */
  readonly endsMs: number | null;
}

export interface HostFacts {
  /** Of what is stored; null where there is no home to keep it. */
  readonly axis: ServedAxis | null;
  /** Accounts of the home's sandboxes that have a machine. */
  owners(): Promise<ReadonlySet<string>>;
  /** Null when the home does not know it. */
  timeOf(sandbox: string): Promise<FoundTime | null>;
  /** The last run that has ended of each sandbox, as long as it was not forgotten. Theirs that live on are among them. */
  ends(): readonly EndedRun[];
  endOf(sandbox: string): EndedRun | null;
  forgetEnd(sandbox: string): void;
  /** When machines ran, of sandboxes that live, and of those whose end is not forgotten. */
  runs(): Promise<readonly VmmRun[]>;
  /** Whether its machine lives, looked at after it was called; null when it does not. */
  pulse(sandbox: string): Promise<Pulse | null>;
  /** What it has sent since its guest began to run; null where it has no network, or nobody counts. Takes 1 ms. */
  egressBytes(sandbox: string): Promise<number | null>;
  /** Its machine is gone, or its lifetime is another. */
  changed(sandbox: string): void;
}

/** For tests, and for engines of which there is nothing to be known. */
export const NO_FACTS: HostFacts = {
  axis: null,
  owners: async () => new Set(),
  timeOf: async () => null,
  ends: () => [],
  endOf: () => null,
  runs: async () => [],
  forgetEnd: () => undefined,
  pulse: async () => null,
  egressBytes: async () => null,
  changed: () => undefined,
};

/** Null where the kernel has written nothing down. Never beyond its lifetime, and not before its guest ran. */
export function knownEnd({ time, end }: EndedRun): KnownEnd | null {
  if (end === null) return null;
  const { axisMs, resumedMs, endsMs } = time;
  const isLate = endsMs !== null && end.atMs >= endsMs;
  const atMs = Math.max(isLate ? endsMs : end.atMs, resumedMs ?? 0);
  const why = isLate ? "its time to live ran out" : "its VMM ended while no server was there to see it";
  return { endMs: axisMs + atMs, why };
}

/** The move that says that its guest ran, if it did and the database was told last of a time before that. */
export function missedMove(
  { id, account, info, time }: EndedRun,
  last: { readonly sequence: number; readonly state: Move["to"]; readonly atMs: number } | null,
): Move | null {
  const { axisMs, resumedMs } = time;
  if (resumedMs === null || (last !== null && !STILL.has(last.state))) return null;
  const atMs = Math.ceil(axisMs + resumedMs); // as every move to it
  if (last !== null && last.atMs > atMs) return null; // on the same axis: it is of a run before that
  return {
    ...{ sandbox: id, account, template: info.template, cpu: info.cpu, memoryMib: info.memoryMb },
    ...{ sequence: (last?.sequence ?? 0) + 1, from: last?.state ?? null, to: "running", event: "found", reason: null },
    ...{ monotonicMs: atMs, wallMs: atMs },
  };
}

const STILL: ReadonlySet<Move["to"]> = new Set(["creating", "hibernated"]);
