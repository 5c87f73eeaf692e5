/**
 * Who may start now. Creates wait in order, one queue per account and the accounts in turn, so a burst of one does not
 * starve another. The one whose turn it is keeps it until it fits: a large create is not passed by small ones forever.
 * Room is vCPUs promised, memory that clones may still dirty, and restores under way; nothing here allocates.
 */
import type { Clock } from "../../base/clock.ts";
import { WarrenError } from "../../errors.ts";
import type { Capacity } from "../../host/host.ts";
import { LIMITS } from "../../limits.ts";
import { Turns } from "./turns.ts";

export interface Need {
  readonly vcpus: number;
  /** MiB that may yet be dirtied; 0 when it is accounted for elsewhere. */
  readonly memoryMib: number;
}

/** A share of the host; giving it back twice is fine. */
export interface Ticket {
  /** Tells how much of the promised memory is really used, so that it is not counted twice. */
  measure(usedMib: () => number | null): void;
  /** The restore is over (whichever way): the next may start. */
  settled(): void;
  give(): void;
}

interface Holder {
  readonly need: Need;
  usedMib: () => number | null;
  outstandingMib: number;
  starting: boolean;
}

/** A create in the queue. `grant` runs at the instant of admission, before anyone else can look at the room again. */
export interface Waiter {
  readonly need: () => Need;
  readonly grant: (ticket: Ticket) => void;
}

export interface AdmitOptions {
  readonly vcpusPerCore: number;
  readonly queue: number;
}

export class Admission {
  readonly #capacity: () => Capacity;
  readonly #clock: Clock;
  readonly #options: AdmitOptions;
  readonly #turns = new Turns<Waiter>();
  readonly #holders = new Set<Holder>();
  #sample: { readonly atMs: number; readonly capacity: Capacity } | null = null;
  #cancelRetry: (() => void) | null = null;
  /** Called when the next create lacks memory: starts giving some back, if it can. */
  shed: () => void = () => undefined;

  constructor(capacity: () => Capacity, clock: Clock, options: AdmitOptions) {
    this.#capacity = capacity;
    this.#clock = clock;
    this.#options = options;
  }

  get waiting(): number {
    return this.#turns.size;
  }

  /** True when no create waits and none is being restored: the time for work that can wait. */
  get quiet(): boolean {
    return this.#turns.size === 0 && this.#starting() === 0;
  }

  /**
   * Puts a create in the queue; it may be granted before this returns. The result takes it out again.
   * @throws {WarrenError} `queue_full`; `capacity_exhausted` – it would not fit if the host were empty.
   */
  enter(account: string, waiter: Waiter): () => void {
    this.#refuseHopeless(waiter.need());
    if (this.#turns.size >= this.#options.queue) {
      throw new WarrenError("queue_full", `${this.#options.queue} creates are already waiting for room on this host`, {
        details: { waiting: this.#turns.size },
      });
    }
    this.#turns.add(account, waiter);
    this.#pump();
    return () => {
      if (this.#turns.delete(account, waiter)) this.#pump();
    };
  }

  /** Memory for something no caller waits for; null when there is none to spare. */
  spare(memoryMib: number): Ticket | null {
    const room = this.#room();
    if (this.#turns.size > 0 || room.pressed || room.memoryMib < memoryMib) return null;
    return this.#take({ vcpus: 0, memoryMib }, false);
  }

  #refuseHopeless(need: Need): void {
    const { memoryTotalMib } = this.#measured().capacity;
    const mostMib = memoryTotalMib - LIMITS.hostReserveMib;
    if (need.memoryMib <= mostMib) return;
    const says = `it may dirty ${need.memoryMib} MiB, and this host can give its sandboxes ${Math.max(mostMib, 0)} MiB`;
    throw new WarrenError("capacity_exhausted", `this sandbox can never fit here: ${says}`, {
      details: { needMib: need.memoryMib, hostMib: memoryTotalMib },
    });
  }

  #take(need: Need, starting: boolean): Ticket {
    const holder: Holder = { need, usedMib: () => null, outstandingMib: need.memoryMib, starting };
    this.#holders.add(holder);
    return {
      measure: (usedMib) => {
        holder.usedMib = usedMib;
      },
      settled: () => {
        if (!holder.starting) return;
        holder.starting = false;
        this.#pump();
      },
      give: () => {
        if (!this.#holders.delete(holder)) return;
        this.#pump();
      },
    };
  }

  #pump(): void {
    for (;;) {
      const next = this.#turns.next();
      if (next === undefined) break;
      const need = next.need();
      const verdict = this.#fits(need);
      if (verdict === "memory") {
        this.shed();
        this.#retryLater();
      }
      if (verdict !== "yes") return;
      this.#turns.shift();
      next.grant(this.#take(need, true));
    }
    this.#cancelRetry?.();
    this.#cancelRetry = null;
  }

  #fits(need: Need): "yes" | "vcpus" | "starting" | "memory" {
    const { cores } = this.#measured().capacity;
    if (this.#starting() >= cores * LIMITS.bootsPerCore) return "starting";
    const vcpusMax = cores * this.#options.vcpusPerCore;
    let vcpus = 0;
    for (const holder of this.#holders) vcpus += holder.need.vcpus;
    // A sandbox wider than the whole budget is admitted alone rather than never.
    if (vcpus > 0 && vcpus + need.vcpus > vcpusMax) return "vcpus";
    const room = this.#room();
    return !room.pressed && need.memoryMib <= room.memoryMib ? "yes" : "memory";
  }

  #starting(): number {
    let count = 0;
    for (const holder of this.#holders) if (holder.starting) count += 1;
    return count;
  }

  #room(): { readonly memoryMib: number; readonly pressed: boolean } {
    const { capacity } = this.#measured();
    let promisedMib = 0;
    for (const holder of this.#holders) promisedMib += holder.outstandingMib;
    return {
      memoryMib: capacity.memoryAvailableMib - LIMITS.hostReserveMib - promisedMib,
      pressed: (capacity.memoryPressure ?? 0) > LIMITS.memoryPressureMax,
    };
  }

  /** What is used already shows in the host's available memory, so a promise only counts for the rest. */
  #measured(): { readonly capacity: Capacity } {
    const nowMs = this.#clock.monotonicMs();
    if (this.#sample === null || nowMs - this.#sample.atMs >= LIMITS.roomSampleMs) {
      this.#sample = { atMs: nowMs, capacity: this.#capacity() };
      for (const holder of this.#holders) {
        holder.outstandingMib = Math.max(0, holder.need.memoryMib - (holder.usedMib() ?? 0));
      }
    }
    return this.#sample;
  }

  /** Memory comes back without anyone here giving it: look again soon. */
  #retryLater(): void {
    this.#cancelRetry ??= this.#clock.after(LIMITS.roomRetryMs, () => {
      this.#cancelRetry = null;
      this.#pump();
    });
  }
}
