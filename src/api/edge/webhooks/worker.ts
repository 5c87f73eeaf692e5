/**
 * Sends what the store's queue holds, several at a time, each with a deadline, until it is taken or given up. All that there is to
 * remember is in the store, so another server or this one after a restart goes on with it: at least once each, in no order.
 */
import type { Clock } from "../../../base/clock.ts";
import type { Log } from "../../../base/log.ts";
import type { Delivery, Store } from "../../store.ts";
import { BOUNDS } from "../bounds.ts";
import { publicAddress, type Resolve, webhookUrl } from "./address.ts";
import { post } from "./post.ts";
import { signed } from "./sign.ts";
import { within } from "./within.ts";

/** Seconds before each further try; a day all in all. */
const BACKOFF_SECONDS = [5, 30, 120, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600];
/** Claimed at a time when as many are held as may be. */
const MORE = 500;
/** The receiver says that it is gone for good. */
const GONE = 410;

export interface WorkerParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly resolve: Resolve;
  readonly allowPrivate: boolean;
  /** Told of each try's outcome: `delivered`, `failed` or `given_up`. */
  readonly tried: (outcome: string) => void;
  /** False: nothing is ever sent. */
  readonly isOn: boolean;
  readonly ca?: string;
}

interface Claimed {
  readonly delivery: Delivery;
  readonly claimedAtMs: number;
}

/** Of one webhook. */
interface Lane {
  sending: number;
  readonly waiting: Claimed[];
}

/** All lanes of one account, by webhook. */
interface Share {
  sending: number;
  /** What waits in its lanes. */
  held: number;
  readonly lanes: Map<string, Lane>;
}

/** After the try that failed; null: no more. */
export function nextTryMs(tries: number, nowMs: number): number | null {
  const seconds = BACKOFF_SECONDS[tries];
  return tries + 1 >= BOUNDS.deliveryTries || seconds === undefined ? null : nowMs + seconds * 1000;
}

export class WebhookWorker {
  readonly #parts: WorkerParts;
  readonly #over = new AbortController();
  readonly #sending = new Set<Promise<void>>();
  /** By account; who was served last is last. */
  readonly #shares = new Map<string, Share>();
  #held = 0;
  #isLooking = false;
  #isAsked = false;
  #stopTimer: () => void = () => undefined;

  constructor(parts: WorkerParts) {
    this.#parts = parts;
    if (parts.isOn) this.#arm();
  }

  /** Something may be due. */
  wake(): void {
    if (!this.#parts.isOn) return;
    this.#isAsked = true;
    void this.#look();
  }

  /** What is under way is cut off, and is sent again when its lease is over. */
  async close(): Promise<void> {
    this.#over.abort(new Error("the server ends"));
    this.#stopTimer();
    await Promise.allSettled([...this.#sending]);
  }

  #arm(): void {
    const look = (): void => {
      this.wake();
      this.#arm();
    };
    this.#stopTimer = this.#parts.clock.after(BOUNDS.deliveryPollMs, look, { background: true });
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const { store, clock, log } = this.#parts;
    try {
      while (this.#isAsked && !this.#over.signal.aborted) {
        this.#isAsked = false;
        const free = BOUNDS.deliveriesHeld - this.#held;
        // Behind what an account with a silent receiver has due there may be another's, which has to be seen even when all is held.
        const room = Math.max(free, this.#isHeldUp() ? MORE : 0);
        if (room === 0) break; // each that ends looks again
        const due = await store.due(clock.wallMs(), room, BOUNDS.deliveryLeaseMs);
        for (const delivery of due) this.#hold(delivery);
        this.#fill();
        if (due.length === room) this.#isAsked = true;
      }
    } catch (cause) {
      log.warn("webhooks wait for the store", { cause: String(cause) });
    } finally {
      this.#isLooking = false;
    }
  }

  #hold(delivery: Delivery): void {
    const { account } = saidBy(delivery.body);
    const share = this.#shares.get(account) ?? { sending: 0, held: 0, lanes: new Map<string, Lane>() };
    if (this.#held >= BOUNDS.deliveriesHeld && !this.#givesWay(share)) return; // due again when its lease is over
    this.#shares.set(account, share);
    const lane = share.lanes.get(delivery.webhook) ?? { sending: 0, waiting: [] };
    share.lanes.set(delivery.webhook, lane);
    lane.waiting.push({ delivery, claimedAtMs: this.#parts.clock.monotonicMs() });
    share.held += 1;
    this.#held += 1;
  }

  /** Most of what is held is of an account that takes too long for it. */
  #isHeldUp(): boolean {
    const most = this.#most();
    if (most.held <= BOUNDS.deliveriesHeldPerAccount) return false;
    const heads = [...most.lanes.values()].flatMap(({ waiting: [first] }) => (first === undefined ? [] : [first]));
    const oldestMs = Math.min(...heads.map(({ claimedAtMs }) => claimedAtMs));
    return this.#parts.clock.monotonicMs() - oldestMs >= BOUNDS.deliveryMs;
  }

  /** The account of which most is held. */
  #most(): Share {
    let most: Share = { sending: 0, held: 0, lanes: new Map() };
    for (const share of this.#shares.values()) if (share.held > most.held) most = share;
    return most;
  }

  /** Whoever holds more than its share loses what came last of it, which is due again when its lease is over. False: nobody does. */
  #givesWay(to: Share): boolean {
    const most = this.#most();
    if (most.held <= BOUNDS.deliveriesHeldPerAccount || to.held >= BOUNDS.deliveriesHeldPerAccount) return false;
    const [longest] = [...most.lanes.values()].sort((a, b) => b.waiting.length - a.waiting.length);
    longest?.waiting.pop();
    most.held -= 1;
    this.#held -= 1;
    return true;
  }

  /** Begins what may begin, an account at a time and of each a webhook at a time. */
  #fill(): void {
    for (let isAny = true; isAny; ) {
      isAny = false;
      for (const [account, share] of [...this.#shares]) {
        if (this.#over.signal.aborted || this.#sending.size >= BOUNDS.deliveriesAtOnce) return;
        if (share.sending >= BOUNDS.deliveriesPerAccount) continue;
        if (this.#serve(share)) {
          isAny = true;
          this.#shares.delete(account);
          this.#shares.set(account, share);
        } else if (share.lanes.size === 0) this.#shares.delete(account);
      }
    }
  }

  /** Begins one delivery of the webhook whose turn it is. False: none may begin. */
  #serve(share: Share): boolean {
    for (const [webhook, lane] of [...share.lanes]) {
      if (lane.sending >= BOUNDS.deliveriesPerWebhook) continue;
      const next = lane.waiting.shift();
      if (next === undefined) {
        if (lane.sending === 0) share.lanes.delete(webhook);
        continue;
      }
      share.lanes.delete(webhook);
      share.lanes.set(webhook, lane);
      share.held -= 1;
      this.#held -= 1;
      this.#begin(share, lane, next);
      return true;
    }
    return false;
  }

  #begin(share: Share, lane: Lane, { delivery, claimedAtMs }: Claimed): void {
    const ageMs = this.#parts.clock.monotonicMs() - claimedAtMs;
    // Its lease may end while it is sent: it is somebody's again, perhaps ours.
    if (ageMs + BOUNDS.deliveryMs >= BOUNDS.deliveryLeaseMs) return;
    lane.sending += 1;
    share.sending += 1;
    const sending = this.#send(delivery).catch((cause: unknown) =>
      this.#parts.log.warn("a webhook's outcome could not be written down", { cause: String(cause) }),
    );
    this.#sending.add(sending);
    void sending.then(() => {
      lane.sending -= 1;
      share.sending -= 1;
      this.#sending.delete(sending);
      this.#fill();
      this.wake();
    });
  }

  async #send(delivery: Delivery): Promise<void> {
    const { store, clock, log, tried } = this.#parts;
    const status = await this.#try(delivery).catch((cause: unknown) => {
      log.debug("a webhook was not delivered", { webhook: delivery.webhook, cause: String(cause) });
      return null;
    });
    // Cut off by the end of the server: it is nobody's failure.
    if (this.#over.signal.aborted && status === null) return;
    const isTaken = status !== null && status >= 200 && status < 300;
    const nextAtMs = isTaken || status === GONE ? null : nextTryMs(delivery.tries, clock.wallMs());
    tried(isTaken ? "delivered" : nextAtMs === null ? "given_up" : "failed");
    await store.settle(delivery.id, { status, nextAtMs, atMs: clock.wallMs() });
  }

  /** The answer's status. @throws when there was none in time, or nowhere to send it */
  async #try({ url: text, secret, body }: Delivery): Promise<number> {
    const { clock, resolve, allowPrivate, ca } = this.#parts;
    return within(clock, BOUNDS.deliveryMs, this.#over.signal, async (signal) => {
      const url = webhookUrl(text);
      const address = await publicAddress(url, resolve, allowPrivate);
      signal.throwIfAborted();
      const headers = signed(secret, saidBy(body).id, clock.wallMs(), body);
      return post({ url, address, headers, body, signal, ...(ca === undefined ? {} : { ca }) });
    });
  }
}

/** As the body says; every one was made here. */
function saidBy(body: string): { readonly id: string; readonly account: string } {
  return JSON.parse(body) as { readonly id: string; readonly account: string };
}
