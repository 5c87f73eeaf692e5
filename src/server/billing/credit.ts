/**
 * Whose credit is used up and wants it so, has what runs hibernated: looked at with every tick, so that an account overdraws
 * what its sandboxes cost in one tick and in the time that their hibernation takes. What could not be hibernated is tried again
 * with the next tick, and said so.
 */
import type { BillingStore } from "../../api/billing.ts";
import type { Store } from "../../api/store.ts";
import type { Clock } from "../../base/clock.ts";
import { nonce } from "../../base/id.ts";
import type { Log } from "../../base/log.ts";
import type { SandboxHost } from "../../contract/routes.ts";
import { isWarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import type { HealthBoard } from "../health.ts";
import type { Figures } from "./figures.ts";

export interface CreditParts {
  readonly store: Pick<BillingStore, "exhausted"> & Pick<Store, "audit">;
  hostFor(account: string): Pick<SandboxHost, "hibernate">;
  readonly health: HealthBoard;
  readonly figures: Figures;
  readonly clock: Clock;
  readonly log: Log;
}

interface Wanted {
  readonly account: string;
  readonly sandbox: string;
}

export class CreditWatch {
  readonly #parts: CreditParts;
  /** Sandboxes that are being hibernated, or wait for that. */
  readonly #under = new Set<string>();
  readonly #jobs = new Set<Promise<void>>();
  readonly #waiting: Wanted[] = [];
  /** Those that could not be, last time. */
  readonly #failed = new Set<string>();
  #busy = 0;
  #isAway = false;

  constructor(parts: CreditParts) {
    this.#parts = parts;
  }

  /** At once and with every tick until the signal; what is under way then ends by itself. Never fails. */
  async watch(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    while (!signal.aborted) {
      await this.tick(signal);
      await clock.sleep(LIMITS.heartbeatMs, signal).catch(() => undefined); // ends with the server
    }
  }

  /** One look; resolves when it is known who is to be hibernated, which goes on behind it. */
  async tick(signal: AbortSignal): Promise<void> {
    const { store, clock, log } = this.#parts;
    try {
      const found = await store.exhausted(clock.wallMs());
      this.#isAway = false;
      const wanted = found.flatMap(({ account, sandboxes }) => sandboxes.map((sandbox) => ({ account, sandbox })));
      const ids = new Set(wanted.map(({ sandbox }) => sandbox));
      for (const id of this.#failed) if (!ids.has(id)) this.#failed.delete(id);
      this.#tellFailed();
      for (const one of wanted) this.#want(one, signal);
    } catch (cause) {
      if (!this.#isAway) log.warn("credit could not be looked at; it is tried again", { cause: String(cause) });
      this.#isAway = true;
    }
  }

  #want(one: Wanted, signal: AbortSignal): void {
    if (this.#under.has(one.sandbox)) return;
    this.#under.add(one.sandbox);
    this.#waiting.push(one);
    this.#fill(signal);
  }

  #fill(signal: AbortSignal): void {
    while (this.#busy < LIMITS.creditHibernations) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      if (signal.aborted) {
        this.#under.delete(next.sandbox);
        continue;
      }
      this.#busy += 1;
      const job = this.#hibernate(next).finally(() => {
        this.#busy -= 1;
        this.#under.delete(next.sandbox);
        this.#jobs.delete(job);
        this.#fill(signal);
      });
      this.#jobs.add(job);
    }
  }

  /** Resolves when nothing is being hibernated. */
  async idle(): Promise<void> {
    while (this.#jobs.size > 0) await Promise.all(this.#jobs);
  }

  async #hibernate({ account, sandbox }: Wanted): Promise<void> {
    const { hostFor, figures, clock, log } = this.#parts;
    const startMs = clock.monotonicMs();
    try {
      await hostFor(account).hibernate({ id: sandbox });
    } catch (cause) {
      // Another server's, or it has ended since: whoever has it sees to it.
      if (isWarrenError(cause, "not_found")) return;
      figures.hibernated(false);
      const says = { account, sandbox, cause: String(cause) };
      if (this.#failed.has(sandbox)) log.debug("a sandbox without credit could still not be hibernated", says);
      else log.error("a sandbox without credit could not be hibernated; it is tried with every tick", says);
      this.#failed.add(sandbox);
      this.#tellFailed();
      return;
    }
    figures.hibernated(true);
    this.#failed.delete(sandbox);
    this.#tellFailed();
    log.info("a sandbox was hibernated: its account's credit is used up", {
      ...{ account, sandbox, ms: Math.round(clock.monotonicMs() - startMs) },
    });
    await this.#record(account, sandbox);
  }

  /** The account sees it in its audit. */
  async #record(account: string, sandbox: string): Promise<void> {
    const { store, clock, log } = this.#parts;
    const at = new Date(clock.wallMs()).toISOString();
    const row = { account, actor: "server", action: "hibernateForCredit", target: sandbox, status: 200 };
    await store
      .audit([{ at, ...row, requestId: `credit-${nonce()}` }])
      .catch((cause: unknown) => log.warn("the audit has no row of a hibernation", { sandbox, cause: String(cause) }));
  }

  #tellFailed(): void {
    const count = this.#failed.size;
    const says =
      count === 0 ? null : `${count} sandboxes of accounts without credit could not be hibernated; see the log`;
    this.#parts.health.note("credit", says);
  }
}
