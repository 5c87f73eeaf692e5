/**
 * Moves on their way into the store's queue: one at a time behind the requests, in order, kept while the store is away. An account
 * that was just seen to have no webhook is not asked about again for a while, so that a burst of creates costs one look.
 */
import type { Clock } from "../../../base/clock.ts";
import type { Log } from "../../../base/log.ts";
import type { Move } from "../../../contract/move.ts";
import type { Store } from "../../store.ts";
import { BOUNDS } from "../bounds.ts";

const RETRY_MS = [100, 500, 2_000, 10_000];

export class WebhookQueue {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #queued: () => void;
  readonly #waiting: Move[] = [];
  /** Account → until when it is taken to have no webhook, by the monotonic clock. */
  readonly #without = new Map<string, number>();
  #isBusy = false;
  #isClosed = false;
  #lost = 0;
  #stopRetry: () => void = () => undefined;

  constructor(parts: { readonly store: Store; readonly clock: Clock; readonly log: Log }, queued: () => void) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#queued = queued;
  }

  take(move: Move): void {
    if (this.#isClosed) return;
    if (this.#waiting.length >= BOUNDS.movesWaiting) {
      this.#waiting.shift();
      this.#lost += 1;
    }
    this.#waiting.push(move);
    void this.#drain(0);
  }

  /** The account has a webhook now. */
  made(account: string): void {
    this.#without.delete(account);
  }

  close(): void {
    this.#isClosed = true;
    this.#stopRetry();
  }

  async #drain(tries: number): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    try {
      for (let move = this.#waiting[0]; move !== undefined && !this.#isClosed; move = this.#waiting[0]) {
        await this.#put(move);
        // While the store was away the list may have been cut at its front.
        if (this.#waiting[0] === move) this.#waiting.shift();
        tries = 0;
      }
      if (this.#lost > 0) this.#log.error("webhooks were not told of moves: too many waited", { lost: this.#lost });
      this.#lost = 0;
      this.#isBusy = false;
    } catch (cause) {
      this.#log.warn("a move waits for the store before its webhooks are told", { cause: String(cause) });
      const delayMs = RETRY_MS[Math.min(tries, RETRY_MS.length - 1)] ?? 0;
      const again = (): void => {
        this.#isBusy = false;
        void this.#drain(tries + 1);
      };
      this.#stopRetry = this.#clock.after(delayMs, again, { background: true });
    }
  }

  async #put(move: Move): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    if ((this.#without.get(move.account) ?? 0) > nowMs) return;
    const { type, body } = messageOf(move);
    if ((await this.#store.enqueue(move.account, type, body, move.wallMs)) > 0) return this.#queued();
    if ((await this.#store.webhooks(move.account)).length > 0) return; // they are for other events
    if (this.#without.size >= BOUNDS.movesWaiting) this.#without.clear();
    this.#without.set(move.account, nowMs + BOUNDS.webhooklessMs);
  }
}

/** What a receiver gets. The id is the same for each try and each receiver: who has seen it has seen the event. */
export function messageOf(move: Move): { readonly type: string; readonly body: string } {
  const { sandbox, sequence, account, template, cpu, memoryMib, from, to, event, reason } = move;
  const type = `sandbox.${to}`;
  const body = {
    id: `evt_${sandbox}_${sequence}`,
    type,
    at: new Date(move.wallMs).toISOString(),
    account,
    sandbox: {
      id: sandbox,
      template,
      cpu,
      memory_mb: memoryMib,
      status: to,
      previous_status: from,
      sequence,
      event,
      reason,
    },
  };
  return { type, body: JSON.stringify(body) };
}
