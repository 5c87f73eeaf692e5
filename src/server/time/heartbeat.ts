/**
 * Proofs of life: at least every `LIMITS.heartbeatMs` the server says of each sandbox with a machine that it was seen to live at that
 * instant, and what it has used. They are written after all moves before the instant, so what is before it is settled: a
 * sandbox whose end nobody saw is charged up to the last one.
 */
import type { Beat } from "../../api/billing.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { LIMITS } from "../../limits.ts";
import type { ServerMoves } from "../moves.ts";
import type { HostFacts } from "./facts.ts";

export interface HeartbeatParts {
  readonly moves: Pick<ServerMoves, "living" | "proven">;
  readonly facts: Pick<HostFacts, "pulse" | "egressBytes" | "axis">;
  /** Takes them to the database, after the moves that were told before. */
  readonly write: (beats: readonly Beat[]) => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** Sandboxes looked at before requests get a turn: some 2 ms. */
const AT_ONCE = 100;
/** Sandboxes whose counters of packets are read in one round, in turn: 1 ms each, in their own network namespaces. */
const COUNTED = 20;

/** A busy machine is late by some 100 ms, and the database takes its time too: two that are written are less than a tick apart. */
export const BEAT_MS = LIMITS.heartbeatMs * 0.8;

/**
 * One round, the first of which is 0. The instant is taken first: whoever is found alive after it was alive at it.
 */
export async function beat(
  { moves, facts, clock }: Omit<HeartbeatParts, "write" | "log">,
  round: number,
): Promise<Beat[]> {
  const nowMs = clock.monotonicMs();
  const beats: Beat[] = [];
  const living = moves.living();
  const first = living.length <= COUNTED ? 0 : (round * COUNTED) % living.length;
  for (const [index, { id, axisMs }] of living.entries()) {
    const isCounted = (index - first + living.length) % living.length < COUNTED;
    if (isCounted || index % AT_ONCE === 0) await clock.sleep(0);
    const pulse = await facts.pulse(id);
    if (pulse === null) continue;
    const seenMs = Math.min(nowMs + axisMs, pulse.endsMs ?? Infinity);
    moves.proven(id, seenMs);
    const egressBytes = isCounted ? await facts.egressBytes(id) : null;
    beats.push({ sandbox: id, seenMs, cpuUsedMs: pulse.cpuUsedMs, egressBytes });
  }
  return beats;
}

/** Until the signal. Never fails. */
export async function keepBeating(parts: HeartbeatParts, signal: AbortSignal): Promise<void> {
  const { facts, clock, log, write } = parts;
  // The first at once: what an earlier server left has had none for as long as no server was there.
  for (let round = 0; !signal.aborted; round++) {
    try {
      facts.axis?.beat();
      const beats = await beat(parts, round);
      if (beats.length > 0) write(beats);
    } catch (cause) {
      log.error("sandboxes could not be looked at for a proof of life", { cause: String(cause) });
    }
    await clock.sleep(BEAT_MS, signal).catch(() => undefined); // ends with the server
  }
}
