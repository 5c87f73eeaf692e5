/**
 * What a server remembers: accounts, keys, sandboxes and their moves, webhooks, audit. The port that `db/` implements on
 * PostgreSQL and on PGlite. Everything that belongs to an account takes that account: there is no other way to ask.
 * Every method throws `store_unavailable` when the database cannot be reached or does not answer in time.
 */
import type { Move } from "../contract/move.ts";
import type { Scope } from "../contract/route.ts";
import type { AccountInfo, AuditEntry, Quota, TokenInfo } from "../contract/routes/api/accounts.ts";
import type { SandboxEventInfo } from "../contract/routes/api/calls.ts";
import type { WebhookInfo } from "../contract/routes/api/webhooks.ts";
import type { SandboxInfo } from "../contract/routes/sandboxes.ts";
import type { Stored } from "../contract/stored.ts";
import type { BillingStore } from "./billing.ts";

/** A key as it is when a request comes with it: not revoked, perhaps expired. */
export interface KnownKey {
  readonly prefix: string;
  readonly label: string;
  readonly scopes: readonly Scope[];
  readonly expiresAtMs: number | null;
  readonly account: AccountInfo;
}

/** Credit is set, or added to what is left of it at that instant. */
export type CreditChange =
  | { readonly creditUsd?: string | null; readonly addCreditUsd?: never }
  | { readonly addCreditUsd: string; readonly creditUsd?: never };

export type AccountChange = Partial<Pick<AccountInfo, "name" | "suspended" | "onEmpty" | "timeZone" | "billTo">> &
  CreditChange & { readonly quota?: Partial<Quota> };

export interface NewKey {
  /** SHA-256 of the whole token, in hex. */
  readonly hash: string;
  readonly prefix: string;
  readonly label: string;
  readonly scopes: readonly Scope[];
  /** Milliseconds since the Unix epoch. */
  readonly createdAtMs: number;
  readonly expiresAtMs: number | null;
}

/** A sandbox that is about to be made, under the id that it will have. */
export interface Booking {
  readonly id: string;
  readonly cpu: number;
  readonly memoryMib: number;
  readonly template: string;
  /** Milliseconds since the Unix epoch. */
  readonly atMs: number;
}

export interface Idempotency {
  readonly key: string;
  /** Of the request's body: the same key with another body is a conflict. */
  readonly requestHash: string;
}

/** Whether an account may have what it asks for. One round trip, in one transaction. */
export type Admission =
  | { readonly kind: "booked" }
  /** The same request has made this one before; it may have ended since. */
  | { readonly kind: "replayed"; readonly sandbox: string }
  /** The same key came with another request. */
  | { readonly kind: "conflict" }
  | { readonly kind: "suspended" }
  | { readonly kind: "no-credit"; readonly creditUsd: string }
  | {
      readonly kind: "over-quota";
      readonly quota: keyof Quota;
      readonly limit: number;
      readonly used: number;
      readonly asked: number;
    };

/**
 * A sandbox that has moved and was not booked counts against the quota from so long after it was made. Before, its own
 * booking may be on its way: what many ask for at once is refused by what was admitted, not by what others ask for.
 */
export const UNBOOKED_MS = 60_000;

/** What an account has at one time. */
export interface InUse {
  readonly sandboxes: number;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly storageMib: number;
}

export interface Delivery {
  readonly id: string;
  readonly webhook: string;
  readonly url: string;
  readonly secret: string;
  /** JSON text: what is signed and sent. */
  readonly body: string;
  /** Tries so far. */
  readonly tries: number;
}

/** The end of a sandbox that nobody wrote down when it came, as the host tells of it. */
export interface KnownEnd {
  /** On the sandbox's axis, milliseconds: as the `monotonicMs` of its moves. Never later than the truth. */
  readonly endMs: number;
  /** For people: the reason of its last move. */
  readonly why: string;
}

export interface Store extends AsyncDisposable, BillingStore {
  /** `pglite` or `postgres`, and what a user has to know of it: for `/healthz` and the log. */
  readonly kind: "pglite" | "postgres";
  readonly note: string | null;

  /** @throws {WarrenError} `store_unavailable` */
  ping(): Promise<void>;
  /** A secret of this installation by name, made by `make` when there is none; the same for every server. */
  secret(name: string, make: () => string): Promise<string>;

  /** @throws {WarrenError} `already_exists`; `invalid_request` – a time zone that the database does not know */
  createAccount(account: AccountInfo): Promise<void>;
  accounts(): Promise<AccountInfo[]>;
  account(id: string): Promise<AccountInfo | null>;
  /**
   * What is left out stays. Null when there is no such account.
   * @throws {WarrenError} `invalid_request` – a time zone that the database does not know, or credit beside a price list in
   *   another currency than US dollars
   */
  updateAccount(id: string, change: AccountChange): Promise<AccountInfo | null>;

  /** @throws {WarrenError} `not_found` – no such account; `already_exists` – a key with that prefix, unless it is this one, revoked */
  createKey(account: string, key: NewKey): Promise<void>;
  /** Null when there is none or it was revoked. */
  keyByHash(hash: string): Promise<KnownKey | null>;
  keys(account: string): Promise<TokenInfo[]>;
  /** False when the account has no such key. */
  revokeKey(account: string, prefix: string): Promise<boolean>;
  /** Prefix → when it was last used; written together, now and then. */
  touchKeys(used: ReadonlyMap<string, number>): Promise<void>;
  /**
   * Tells, until the result is called, when a key or an account has changed, here or in another server: what was
   * remembered of keys is to be forgotten. Also when the database was away, since changes may have been missed.
   */
  onKeysChanged(listener: () => void): () => void;

  /**
   * Books sandboxes, all or none, against the account's quota and credit, as of the first one's `atMs`. What is booked
   * counts until it ends; what has only moved (made outside of a server, inherited, or its booking was lost) counts
   * {@link UNBOOKED_MS} after it was made. Credit is what is left with all that runs charged up to now; nothing ends the
   * sandboxes of an account that has none left. One that is booked already is about to wake: its place is its own, its
   * vCPUs and memory are asked for, and its row stays as it is (so there is nothing to `cancel` when it does not wake).
   */
  admit(account: string, bookings: readonly Booking[], idempotency: Idempotency | null): Promise<Admission>;
  /** What was booked will not be, nor is it what its Idempotency-Key has made; also when `admit` is still under way. */
  cancel(account: string, ids: readonly string[]): Promise<void>;
  /** What the sandbox is; for those that have ended. Written after the answer, with its first moves. */
  describe(account: string, infos: readonly SandboxInfo[]): Promise<void>;
  inUse(account: string): Promise<InUse>;
  /** Moves in any order, some of them known already: each counts once, by (sandbox, sequence). */
  record(moves: readonly Move[]): Promise<void>;
  recordStored(rows: readonly Stored[]): Promise<void>;
  /** The last of a sandbox's moves, oldest first; null when the account never had it. */
  events(account: string, sandbox: string, tail: number): Promise<SandboxEventInfo[] | null>;
  /** To when it is known to have lived, on its axis: the later of its last move and its last proof of life; null: no such row. */
  provenMs(account: string, sandbox: string): Promise<number | null>;
  /** One that has ended, as last described; null when the account never had it. */
  endedSandbox(account: string, sandbox: string): Promise<SandboxInfo | null>;
  /**
   * Bookings and open rows of this server's that are not among `live`: closed at a start. One of `ended` is charged to its
   * end, any other to its last proof of life (the latest of its moves and its heartbeats), never to `atMs`, which is when
   * they are closed: neither is beyond its lifetime, which the host sees to. What ends with its process, a clone kept ready or a
   * build, is charged to `servedMs`, when the last server here is known to have lived. The Idempotency-Key of one that never ran makes another when it comes
   * again.
   */
  reconcile(
    live: ReadonlySet<string>,
    ended: ReadonlyMap<string, KnownEnd>,
    /** Milliseconds since the Unix epoch. */
    atMs: number,
    /** On the axis of what is stored; null: not known, and nothing of it is charged. */
    servedMs?: number | null,
  ): Promise<number>;
  /**
   * Forgets events, idempotency keys and audit rows from before `beforeMs`, and of sandboxes that ended before it all but
   * what reports tell of them; how many rows.
   */
  forget(beforeMs: number): Promise<number>;

  labelPort(account: string, sandbox: string, port: number, label: string | null): Promise<void>;
  /** False when it had none. */
  unlabelPort(account: string, sandbox: string, port: number): Promise<boolean>;
  portLabels(account: string, sandbox: string): Promise<ReadonlyMap<number, string | null>>;

  audit(rows: readonly AuditEntry[]): Promise<void>;
  /** Newest first. Null as account: of all. */
  auditLog(
    account: string | null,
    options: { readonly limit: number; readonly before: string | null },
  ): Promise<AuditEntry[]>;

  createWebhook(account: string, webhook: WebhookInfo, secret: string): Promise<void>;
  webhooks(account: string): Promise<WebhookInfo[]>;
  removeWebhook(account: string, id: string): Promise<boolean>;
  /** Queues a body for each webhook of the account's that wants this type. */
  enqueue(account: string, type: string, body: string, atMs: number): Promise<number>;
  /** Claims deliveries that are due for `leaseMs`, so that no two servers send one at the same time. */
  due(atMs: number, limit: number, leaseMs: number): Promise<Delivery[]>;
  /** Over with `nextAtMs` null: delivered, or given up. */
  settle(
    delivery: string,
    outcome: { readonly status: number | null; readonly nextAtMs: number | null; readonly atMs: number },
  ): Promise<void>;
}
