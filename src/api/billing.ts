/**
 * The part of the store that is about money: what was used becomes intervals and ledger entries in the database, by the
 * statements behind this port. What belongs to an account takes that account.
 */
import type {
  Difference,
  Invoice,
  InvoiceInfo,
  PlanInfo,
  PriceList,
  Pricing,
  SandboxUsage,
  Settlement,
  SinkInfo,
  UsageEntry,
  UsageReport,
} from "../contract/routes/api/billing.ts";

/** What a usage report is grouped by: `metadata.<key>` is a sandbox's label. */
export type Grouping =
  | { readonly kind: "day" | "sandbox" | "template" }
  | { readonly kind: "metadata"; readonly key: string };

export interface UsageRange {
  /** Milliseconds since the Unix epoch: from (inclusive) to (exclusive). */
  readonly fromMs: number;
  readonly toMs: number;
}

export interface UsageQuestion extends UsageRange {
  /** IANA name: where its days begin. */
  readonly timeZone: string;
  readonly groupBy: readonly Grouping[];
}

/** A proof of life: the sandbox ran, on this host, at this instant or later. */
export interface Beat {
  readonly sandbox: string;
  /** On the sandbox's axis, milliseconds. Never beyond the end of its lifetime. */
  readonly seenMs: number;
  /** CPU time that its VMM has really used since it last began to run, milliseconds; null where the host does not tell. */
  readonly cpuUsedMs: number | null;
  /** Bytes that it has sent since it last began to run; null where there is no network, or nobody counts. */
  readonly egressBytes: number | null;
}

/** When a VMM of a sandbox was there, by the host's own record: milliseconds on the sandbox's axis. */
export interface VmmRun {
  readonly sandbox: string;
  /** Null: not known. */
  readonly fromMs: number | null;
  /** Null: it still is. */
  readonly toMs: number | null;
}

export interface PriceChange {
  readonly list: string;
  /** Undefined: as it is; of a new list USD. */
  readonly currency: string | undefined;
  /** Of a new list: for this account alone. */
  readonly account: string | undefined;
  /** UTC. Undefined: tomorrow; of a new list the beginning of time. */
  readonly fromDay: string | undefined;
  /** Meter → exact decimal text. */
  readonly prices: Readonly<Record<string, string>>;
}

export interface Sink extends Pick<SinkInfo, "id" | "kind" | "account" | "url"> {
  readonly token: string | null;
  readonly customers: Readonly<Record<string, string>>;
}

/** A CloudEvent that a sink has not taken yet. */
export interface Outgoing {
  readonly id: string;
  readonly sink: Sink;
  readonly event: UsageEvent;
  /** Tries so far. */
  readonly tries: number;
  /** Since when the receiver may have it without our knowing, before this claim; null: it has not. Milliseconds since the epoch. */
  readonly sentAtMs: number | null;
}

/** What became of an event that was claimed. */
export interface EventOutcome {
  readonly id: string;
  /** Kept as the sink's last error; null: it went well. */
  readonly error: string | null;
  /** Null: it is over, taken or given up. */
  readonly next: { readonly atMs: number; readonly tries: number; readonly sentAtMs: number | null } | null;
}

/** What an event tells: one interval. Its id is the same whenever it is made again. */
export interface UsageEvent {
  /** `<subject>:<meter>:<first millisecond>` */
  readonly id: string;
  readonly account: string;
  readonly subject: string;
  readonly meter: string;
  readonly template: string | null;
  readonly fromMs: number;
  readonly toMs: number;
  /** In the meter's unit. */
  readonly quantity: string;
}

/** Every method throws `store_unavailable` when the database cannot be reached or does not answer in time. */
export interface BillingStore {
  /**
   * What this server's sandboxes ran to, one statement for all: kept as each one's last proof of life, which only grows.
   * Called after all moves from before the instant have been recorded. One that is unknown or has ended is left alone.
   */
  heartbeat(beats: readonly Beat[]): Promise<void>;
  /** Accounts whose credit is used up, with what runs charged up to now, and that want what runs hibernated. */
  exhausted(nowMs: number): Promise<readonly { readonly account: string; readonly sandboxes: readonly string[] }[]>;

  /** @throws {WarrenError} `not_found` – no such account */
  pricing(account: string, nowMs: number): Promise<Pricing>;
  priceLists(): Promise<PriceList[]>;
  /**
   * All of it or nothing. Prices from the same day on are replaced. A day has begun by `nowMs` or by the database's clock.
   * @throws {WarrenError} `invalid_request` – an unknown meter, a negative price, a day that has begun, another currency;
   *   `not_found` – no such account
   */
  setPrices(change: PriceChange, nowMs: number): Promise<PriceList>;
  /**
   * Makes it, or makes it anew while no account has it.
   * @throws {WarrenError} `already_exists` – another plan of this name, which an account has; `not_found` – no such list;
   *   `invalid_request` – what is no amount, or a list that an account which is to have it may not
   */
  setPlan(plan: PlanInfo): Promise<PlanInfo>;
  /**
   * Another plan from the same day on is replaced while that day has not begun, as by `setPrices`.
   * @throws {WarrenError} `not_found` – no such account or plan; `invalid_request` – another account's list, another
   *   currency than its credit, a day that has begun although it has used something since; `already_exists` – it has had one
   *   since that day
   */
  subscribeTo(account: string, plan: string, fromDay: string | undefined, nowMs: number): Promise<void>;

  /** Intervals and what is open, cut exactly at the question's bounds and days. */
  usage(account: string, question: UsageQuestion, nowMs: number): Promise<UsageReport>;
  /**
   * What `usage` sums up, by its beginning: intervals and what is open, cut at the range's ends alone. A page of at most
   * `limit`, after the one whose `next` is given; `next` is null on the last.
   */
  usageEntries(
    account: string,
    page: UsageRange & { readonly after: string | null; readonly limit: number },
    nowMs: number,
  ): Promise<{ readonly items: readonly UsageEntry[]; readonly next: string | null }>;
  /** Null when the account never had it. */
  sandboxUsage(account: string, sandbox: string): Promise<SandboxUsage | null>;
  /** Newest first, a draft of the month that is not over among them. */
  invoices(account: string, nowMs: number): Promise<InvoiceInfo[]>;
  /** Null when the account has none of that id. */
  invoice(account: string, id: string, nowMs: number): Promise<Invoice | null>;

  /** Charges what is not yet, rolls up, closes days and issues invoices: again and by many servers with the same result. */
  settleBooks(nowMs: number): Promise<Settlement>;
  /**
   * @returns the ids of the entries written
   * @throws {WarrenError} `not_found` – no such entry; `already_exists` – it was corrected before
   */
  correct(
    entry: string,
    correction: { readonly quantity: string | null; readonly reason: string },
    nowMs: number,
  ): Promise<readonly string[]>;
  /**
   * Books against moves, ledger against intervals, and what is charged as running against when VMMs ran, of the sandboxes that
   * something is known of. Milliseconds since the Unix epoch.
   */
  reconcileBooks(
    fromMs: number,
    toMs: number,
    ran?: readonly VmmRun[],
  ): Promise<{ readonly sandboxes: number; readonly differences: readonly Difference[] }>;

  sinks(): Promise<SinkInfo[]>;
  /** @throws {WarrenError} `already_exists`; `not_found` – no such account */
  createSink(sink: Sink, nowMs: number): Promise<SinkInfo>;
  /** False when there is none. */
  removeSink(id: string): Promise<boolean>;
  /**
   * Queues events of intervals that are new, `limit` at most for each sink; how many. None is passed over, in whichever order
   * their transactions end, and none is queued twice.
   */
  fillOutbox(limit: number, nowMs: number): Promise<number>;
  /**
   * Claims events that are due for `leaseMs`, `limit` at most for each sink, so that no two servers send one at the same time.
   * Nothing of the sinks in `except`.
   */
  dueEvents(nowMs: number, limit: number, leaseMs: number, except?: readonly string[]): Promise<Outgoing[]>;
  settleEvents(outcomes: readonly EventOutcome[]): Promise<void>;
  /** Sink → events that it has not taken yet. */
  outboxWaiting(): Promise<ReadonlyMap<string, number>>;
}
