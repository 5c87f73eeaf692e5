/**
 * One claim of one sink's events: cut into requests, sent, and each event's outcome told as soon as it is known. It ends early
 * when the receiver is in trouble, the lease is nearly over or the server ends; what was not sent by then is given back.
 */
import type { EventOutcome, Outgoing } from "../api/billing.ts";
import { LIMITS } from "../limits.ts";
import { retryMs } from "./pace.ts";
import type { Receiver, Verdict } from "./receiver.ts";
import { type Heard, send, type Way } from "./send.ts";

type Keep = (outcomes: readonly EventOutcome[]) => Promise<void>;

export interface Trouble {
  readonly says: string;
  readonly afterMs: number | null;
}

interface TurnParts {
  readonly way: Way;
  /** Milliseconds since the Unix epoch. */
  readonly claimedAtMs: number;
  readonly signal: AbortSignal;
}

export class Turn {
  readonly #receiver: Receiver;
  readonly #parts: TurnParts;
  readonly #endsAtMs: number;
  #trouble: Trouble | null = null;

  constructor(receiver: Receiver, parts: TurnParts) {
    this.#receiver = receiver;
    this.#parts = parts;
    this.#endsAtMs = parts.way.clock.monotonicMs() + LIMITS.sinkLeaseMs - 2 * LIMITS.sinkAnswerMs;
  }

  /** Why the receiver is to be left alone; null: it is well. */
  get trouble(): Trouble | null {
    return this.#trouble;
  }

  /** @throws what `keep` throws */
  async run(outs: readonly Outgoing[], keep: Keep): Promise<void> {
    const { clock } = this.#parts.way;
    const unsent = outs.map((out) => ({ out, outcome: this.#unsent(out, clock.wallMs()) }));
    await keep(unsent.flatMap(({ outcome }) => (outcome === null ? [] : [outcome])));
    const lanes = this.#lanes(unsent.flatMap(({ out, outcome }) => (outcome === null ? [out] : [])));
    const next = lanes.values();
    const worker = async (): Promise<void> => {
      for (const lane of next) for (const batch of lane) await this.#batch(batch, keep);
    };
    await Promise.all(Array.from({ length: this.#receiver.atOnce }, worker));
  }

  /** What need not be sent at all, or not yet. */
  #unsent(out: Outgoing, nowMs: number): EventOutcome | null {
    const { notBeforeMs, knowsForMs } = this.#receiver;
    const refusal = this.#receiver.refuses(out, nowMs);
    if (refusal !== null) return givenUp(out, refusal);
    const atMs = notBeforeMs?.(out) ?? nowMs;
    if (atMs > nowMs) return { id: out.id, error: null, next: { atMs, tries: out.tries, sentAtMs: out.sentAtMs } };
    if (knowsForMs === null || out.sentAtMs === null || out.sentAtMs > nowMs - knowsForMs) return null;
    return givenUp(out, "it may have been taken so long ago that sending it again could count it twice");
  }

  /** Batches that go one after another, beside those of other lanes. */
  #lanes(outs: readonly Outgoing[]): Outgoing[][][] {
    const { batch, laneOf } = this.#receiver;
    const lanes = new Map<string, Outgoing[][]>();
    const alone: Outgoing[][][] = [];
    let open: Outgoing[] | null = null;
    for (const out of outs) {
      const key = laneOf(out);
      if (key !== null) {
        lanes.set(key, [...(lanes.get(key) ?? []), [out]]);
        continue;
      }
      if (open === null || open.length >= batch) {
        open = [];
        alone.push([open]);
      }
      open.push(out);
    }
    return [...alone, ...lanes.values()];
  }

  get #isOver(): boolean {
    const { way, signal } = this.#parts;
    return this.#trouble !== null || signal.aborted || way.clock.monotonicMs() >= this.#endsAtMs;
  }

  async #batch(outs: readonly Outgoing[], keep: Keep): Promise<void> {
    const [first] = outs;
    if (first === undefined) return;
    const { way, signal } = this.#parts;
    if (this.#isOver) return keep(outs.map((out) => back(out, way.clock.wallMs())));
    const request = this.#receiver.write(outs, way.clock.wallMs());
    const heard = await send(first.sink, request, way, signal);
    if (heard.kind === "failed" && signal.aborted) {
      // Cut off by the end of the server: whoever goes on sends it again, when its lease is over.
      if (heard.isSure) await keep(outs.map((out) => back(out, way.clock.wallMs())));
      return;
    }
    const verdicts = this.#verdicts(heard, outs);
    if (verdicts === null) {
      for (const out of outs) await this.#batch([out], keep);
      return;
    }
    const both = outs.map((out, i) => ({ out, verdict: verdicts[i] ?? ({ kind: "anew" } as const) }));
    await keep(both.flatMap(({ out, verdict }) => this.#outcome(out, verdict)));
    await this.#batch(
      both.flatMap(({ out, verdict }) => (verdict.kind === "anew" ? [out] : [])),
      keep,
    );
  }

  #verdicts(heard: Heard, outs: readonly Outgoing[]): readonly Verdict[] | null {
    if (heard.kind === "answered") return this.#receiver.read(heard, outs);
    const { says, isSure } = heard;
    return outs.map(() => ({ kind: "again", says, afterMs: null, isSure }));
  }

  #outcome(out: Outgoing, verdict: Verdict): EventOutcome[] {
    if (verdict.kind === "anew") return [];
    if (verdict.kind === "taken") return [{ id: out.id, error: null, next: null }];
    if (verdict.kind === "never") return [givenUp(out, verdict.says)];
    const { says, afterMs, isSure } = verdict;
    this.#trouble ??= { says, afterMs };
    const tries = out.tries + 1;
    const delayMs = retryMs(tries, spreadOf(out.id), afterMs);
    if (delayMs === null) return [givenUp(out, `it was tried ${tries} times: ${says}`)];
    const sentAtMs = isSure ? out.sentAtMs : (out.sentAtMs ?? this.#parts.claimedAtMs);
    return [{ id: out.id, error: says, next: { atMs: this.#parts.way.clock.wallMs() + delayMs, tries, sentAtMs } }];
  }
}

/** So begin errors that stay until somebody has seen them. */
export const GIVEN_UP = "given up";

function givenUp({ id, event }: Outgoing, says: string): EventOutcome {
  return { id, error: `${GIVEN_UP}: ${event.id}: ${says}`, next: null };
}

/** As it was claimed: nothing was tried. */
function back({ id, tries, sentAtMs }: Outgoing, nowMs: number): EventOutcome {
  return { id, error: null, next: { atMs: nowMs, tries, sentAtMs } };
}

/** 0 to 1, the same for the same event. */
function spreadOf(id: string): number {
  return (Number(Bun.hash.crc32(id)) % 1000) / 1000;
}
