/**
 * Sandboxes that are made while the store is asked whether their account may have them: both at the same time, in one round
 * trip. A refusal stops what is being made. A failure gives the booking back, and so does a store that does not answer, since
 * it may have booked all the same.
 */
import type { Clock } from "../../base/clock.ts";
import type { CallOptions, SandboxSize } from "../../contract/route.ts";
import type { SandboxHost } from "../../contract/routes.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import type { Admission, Booking, Idempotency, Store } from "../store.ts";
import type { GivenBack } from "./given-back.ts";

export interface Order<T> {
  readonly store: Store;
  readonly clock: Clock;
  readonly givenBack: GivenBack;
  readonly host: SandboxHost;
  readonly account: string;
  /** All or none of them. */
  readonly count: number;
  readonly idempotency: Idempotency | null;
  readonly signal: AbortSignal;
  make(options: CallOptions): Promise<T>;
  idsOf(made: T): readonly string[];
}

export type Made<T> =
  | { readonly kind: "made"; readonly value: T }
  | { readonly kind: "replayed"; readonly sandbox: string };

/** What a caller is told who is not given what was asked for. */
export function refusalOf(verdict: Exclude<Admission, { kind: "booked" | "replayed" }>): WarrenError {
  switch (verdict.kind) {
    case "conflict":
      return new WarrenError("idempotency_conflict", "this Idempotency-Key came with another request before", {
        details: { field: "Idempotency-Key" },
      });
    case "suspended":
      return new WarrenError("forbidden", "the account is suspended: nothing new is made");
    case "no-credit":
      return new WarrenError("out_of_credit", `the account's credit is used up: ${verdict.creditUsd} USD are left`, {
        details: { creditUsd: verdict.creditUsd },
      });
    case "over-quota": {
      const { quota, limit, used, asked } = verdict;
      const says = `the account's quota of ${quota} is ${limit}: ${used} are in use, and ${asked} more were asked for`;
      return new WarrenError("quota_exceeded", says, { details: { quota, limit, used, asked } });
    }
  }
}

class Book<T> {
  readonly #order: Order<T>;
  readonly #ids: string[] = [];
  #verdict: Promise<Admission> | null = null;
  readonly refused = new AbortController();

  constructor(order: Order<T>) {
    this.#order = order;
  }

  began(id: string, size: SandboxSize): void {
    this.#ids.push(id);
    if (this.#ids.length === this.#order.count) void this.verdict(this.#ids, size);
  }

  /** Null: nothing was asked of the store yet. */
  get asked(): Promise<Admission> | null {
    return this.#verdict;
  }

  get ids(): readonly string[] {
    return this.#ids;
  }

  /** `size` is asked for where it is not known. */
  verdict(ids: readonly string[], size: SandboxSize | null = null): Promise<Admission> {
    if (this.#verdict !== null) return this.#verdict;
    const verdict = this.#ask(ids, size);
    this.#verdict = verdict;
    verdict.then(
      (found) => {
        if (found.kind === "booked") return;
        const gone = new WarrenError("cancelled", "the same request was answered before");
        this.refused.abort(found.kind === "replayed" ? gone : refusalOf(found));
      },
      (cause: unknown) => {
        // One that is gone already fails by itself, and says why.
        if (!isWarrenError(cause, "not_found")) this.refused.abort(cause);
      },
    );
    return verdict;
  }

  /** All of them have the same size: they are clones of one thing. */
  async #ask(ids: readonly string[], size: SandboxSize | null): Promise<Admission> {
    const { clock, host, account } = this.#order;
    const { cpu, memoryMb: memoryMib, template } = size ?? (await host.get({ id: ids[0] ?? "" }));
    const atMs = clock.wallMs();
    const bookings = ids.map((id) => ({ id, cpu, memoryMib, template, atMs }));
    try {
      return await this.#admitted(bookings);
    } catch (cause) {
      void this.#order.givenBack.give(account, ids);
      throw cause;
    }
  }

  /** Never answered with one that is being given back: then there was none. */
  async #admitted(bookings: readonly Booking[]): Promise<Admission> {
    const { store, account, idempotency, givenBack } = this.#order;
    if (idempotency === null) return store.admit(account, bookings, null);
    const dead = givenBack.waiting(account); // before it is asked: meanwhile they may be gone from both
    const found = await store.admit(account, bookings, idempotency);
    if (found.kind !== "replayed" || !dead.has(found.sandbox)) return found;
    await store.cancel(account, [found.sandbox]);
    return store.admit(account, bookings, idempotency);
  }

  async cancel(): Promise<void> {
    await this.#order.givenBack.give(this.#order.account, this.#ids);
  }
}

/** @throws {WarrenError} what `make` throws; `quota_exceeded`, `out_of_credit`, `idempotency_conflict`, `forbidden` */
export async function booked<T>(order: Order<T>): Promise<Made<T>> {
  const book = new Book(order);
  const signal = AbortSignal.any([order.signal, book.refused.signal]);
  let value: T;
  try {
    value = await order.make({ signal, began: (id, size) => book.began(id, size) });
  } catch (cause) {
    return await failed(book, cause);
  }
  return await finished(order, book, value);
}

/** Nothing was made. */
async function failed<T>(book: Book<T>, cause: unknown): Promise<Made<T>> {
  if (book.asked === null) throw cause;
  const verdict = await book.asked.catch((why: unknown) => {
    throw isWarrenError(why, "not_found") ? cause : why;
  });
  if (verdict.kind === "replayed") return verdict;
  if (verdict.kind !== "booked") throw refusalOf(verdict);
  await book.cancel();
  throw cause;
}

/** What was made is ended again when it may not be. */
async function finished<T>({ host, idsOf }: Order<T>, book: Book<T>, value: T): Promise<Made<T>> {
  const ids = idsOf(value);
  try {
    const verdict = await book.verdict(ids);
    if (verdict.kind === "booked") return { kind: "made", value };
    await end(host, ids);
    if (verdict.kind === "replayed") return verdict;
    throw refusalOf(verdict);
  } catch (cause) {
    await end(host, ids);
    throw cause;
  }
}

async function end(host: SandboxHost, ids: readonly string[]): Promise<void> {
  for (const id of ids)
    await host.close({ id }).catch((cause: unknown) => {
      if (!isWarrenError(cause, "not_found")) throw cause;
    });
}
