/** A server's memory that ends with it: the `Store` of tests about the API. The store suite holds it to what the real ones do. */

import {
  type Admission,
  type Booking,
  type Delivery,
  type Idempotency,
  type InUse,
  type KnownKey,
  type NewKey,
  type Store,
  UNBOOKED_MS,
} from "../../../src/api/store.ts";
import { nonce } from "../../../src/base/id.ts";
import type { Move } from "../../../src/contract/move.ts";
import type { AccountInfo, AuditEntry, TokenInfo } from "../../../src/contract/routes/api/accounts.ts";
import type { SandboxEventInfo } from "../../../src/contract/routes/api/calls.ts";
import type { WebhookInfo } from "../../../src/contract/routes/api/webhooks.ts";
import type { SandboxInfo } from "../../../src/contract/routes/sandboxes.ts";
import type { Stored } from "../../../src/contract/stored.ts";
import { WarrenError } from "../../../src/errors.ts";
import { MemoryBilling } from "./memory-billing.ts";
import * as rows from "./memory-rows.ts";
import { creditWith, last, type Row } from "./memory-rows.ts";

const ENDED = /^(deleted|failed)$/;
const iso = (ms: number) => new Date(ms).toISOString();

export class MemoryStore extends MemoryBilling implements Store {
  readonly kind = "pglite";
  readonly note = "memory of a test";
  readonly #secrets = new Map<string, string>();
  readonly #accounts = new Map<string, AccountInfo>();
  readonly #keys = new Map<string, rows.HeldKey>();
  readonly #listeners = new Set<() => void>();
  readonly #rows = new Map<string, Row>();
  readonly #idempotent = new Map<string, { requestHash: string; sandbox: string; atMs: number }>();
  readonly #stored = new Map<string, Stored>();
  readonly #labels = new Map<string, Map<number, string | null>>();
  #audit: AuditEntry[] = [];
  readonly #webhooks = new Map<string, rows.HeldWebhook>();
  readonly #deliveries = new Map<string, rows.Waiting>();

  #changed(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  async ping(): Promise<void> {
    this.called("ping");
  }

  async secret(name: string, make: () => string): Promise<string> {
    this.called("secret");
    this.#secrets.set(name, this.#secrets.get(name) ?? make());
    return this.#secrets.get(name) ?? "";
  }

  async createAccount(account: AccountInfo): Promise<void> {
    this.called("createAccount");
    if (this.#accounts.has(account.id))
      throw new WarrenError("already_exists", `there is an account ${account.id}`, { details: { id: account.id } });
    this.#accounts.set(account.id, account);
  }

  async accounts(): Promise<AccountInfo[]> {
    this.called("accounts");
    return [...this.#accounts.values()];
  }

  async account(id: string): Promise<AccountInfo | null> {
    this.called("account");
    return this.#accounts.get(id) ?? null;
  }

  async updateAccount(id: string, change: Parameters<Store["updateAccount"]>[1]): Promise<AccountInfo | null> {
    this.called("updateAccount");
    const [known, { quota, addCreditUsd, ...rest }] = [this.#accounts.get(id), change];
    if (known === undefined) return null;
    const next = { ...known, ...rest, quota: { ...known.quota, ...quota } };
    if (addCreditUsd !== undefined) next.creditUsd = creditWith(known.creditUsd, addCreditUsd);
    this.#accounts.set(id, next);
    this.#changed();
    return next;
  }

  async createKey(account: string, key: NewKey): Promise<void> {
    this.called("createKey");
    if (!this.#accounts.has(account)) throw new WarrenError("not_found", `there is no account ${account}`);
    const same = [...this.#keys.values()].find(({ prefix }) => prefix === key.prefix);
    if (same !== undefined && !(same.hash === key.hash && same.account === account && same.revoked))
      throw new WarrenError("already_exists", `there is an API key ${key.prefix} already`);
    this.#keys.set(key.hash, { ...key, account, lastUsedAtMs: null, revoked: false });
    this.#changed();
  }

  async keyByHash(hash: string): Promise<KnownKey | null> {
    this.called("keyByHash");
    const key = this.#keys.get(hash);
    const account = key === undefined ? undefined : this.#accounts.get(key.account);
    if (key === undefined || key.revoked || account === undefined) return null;
    const { prefix, label, scopes, expiresAtMs } = key;
    return { prefix, label, scopes, expiresAtMs, account };
  }

  async keys(account: string): Promise<TokenInfo[]> {
    this.called("keys");
    return [...this.#keys.values()]
      .filter((key) => key.account === account && !key.revoked)
      .sort((a, b) => b.createdAtMs - a.createdAtMs)
      .map(({ prefix, label, scopes, createdAtMs, lastUsedAtMs, expiresAtMs }) => ({
        prefix,
        label,
        scopes: [...scopes],
        createdAt: iso(createdAtMs),
        lastUsedAt: lastUsedAtMs === null ? null : iso(lastUsedAtMs),
        expiresAt: expiresAtMs === null ? null : iso(expiresAtMs),
      }));
  }

  async revokeKey(account: string, prefix: string): Promise<boolean> {
    this.called("revokeKey");
    const key = [...this.#keys.values()].find((k) => k.account === account && k.prefix === prefix && !k.revoked);
    if (key === undefined) return false;
    key.revoked = true;
    this.#changed();
    return true;
  }

  async touchKeys(used: ReadonlyMap<string, number>): Promise<void> {
    this.called("touchKeys");
    for (const key of this.#keys.values()) {
      const at = used.get(key.prefix);
      if (at !== undefined) key.lastUsedAtMs = Math.max(at, key.lastUsedAtMs ?? 0);
    }
  }

  onKeysChanged(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async admit(account: string, bookings: readonly Booking[], asked: Idempotency | null): Promise<Admission> {
    this.called("admit");
    const known = asked === null ? undefined : this.#idempotent.get(`${account}\0${asked.key}`);
    if (known !== undefined && known.requestHash !== asked?.requestHash) return { kind: "conflict" };
    if (known !== undefined) return { kind: "replayed", sandbox: known.sandbox };
    const refusal = this.#refusal(account, bookings);
    if (refusal !== null) return refusal;
    for (const { id, cpu, memoryMib, atMs } of bookings) {
      const row = this.#row(account, id, cpu, memoryMib, atMs);
      if (row.account === account) row.booked = true;
    }
    const first = bookings[0];
    if (asked !== null && first !== undefined) {
      const { id: sandbox, atMs } = first;
      this.#idempotent.set(`${account}\0${asked.key}`, { requestHash: asked.requestHash, sandbox, atMs });
    }
    return { kind: "booked" };
  }

  #refusal(account: string, bookings: readonly Booking[]): Admission | null {
    const owner = this.#accounts.get(account);
    if (owner === undefined) return null;
    if (owner.suspended) return { kind: "suspended" };
    if (owner.creditUsd !== null && Number(owner.creditUsd) <= 0)
      return { kind: "no-credit", creditUsd: owner.creditUsd };
    const mine = ({ account: of, booked, endedAtMs }: Row) => of === account && booked && endedAtMs === null;
    const kept = bookings.filter(({ id }) => [this.#rows.get(id)].some((row) => row !== undefined && mine(row)));
    const now = this.#inUse(account, bookings);
    const asked = {
      sandboxes: bookings.length - kept.length,
      vcpus: bookings.reduce((sum, { cpu }) => sum + cpu, 0),
      memoryMb: bookings.reduce((sum, { memoryMib }) => sum + memoryMib, 0),
    };
    const used = { sandboxes: now.sandboxes + kept.length, vcpus: now.vcpus, memoryMb: now.memoryMib };
    for (const quota of ["sandboxes", "vcpus", "memoryMb"] as const) {
      const limit = owner.quota[quota];
      if (limit !== null && asked[quota] > 0 && used[quota] + asked[quota] > limit)
        return { kind: "over-quota", quota, limit, used: used[quota], asked: asked[quota] };
    }
    return null;
  }

  async cancel(account: string, ids: readonly string[]): Promise<void> {
    this.called("cancel");
    for (const id of ids) {
      const row = this.#rows.get(id);
      if (row?.account !== account) continue;
      if (row.moves.size === 0 && row.info === null) this.#rows.delete(id);
      this.#forgetKeysOf(id);
    }
  }

  #forgetKeysOf(id: string): void {
    for (const [key, { sandbox }] of this.#idempotent) if (sandbox === id) this.#idempotent.delete(key);
  }

  async describe(account: string, infos: readonly SandboxInfo[]): Promise<void> {
    this.called("describe");
    for (const info of infos) {
      const row = this.#row(account, info.id, info.cpu, info.memoryMb, Date.parse(info.createdAt));
      if (row.account === account) row.info = info;
    }
  }

  #row(account: string, id: string, cpu: number, memoryMib: number, createdAtMs: number): Row {
    const row = this.#rows.get(id) ?? rows.newRow(account, cpu, memoryMib, createdAtMs);
    this.#rows.set(id, row);
    return row;
  }

  /** As a booking sees it: without its own sandboxes, and without those whose booking may be on its way. */
  #inUse(account: string, but: readonly Booking[] = []): InUse {
    const overdueMs = (but[0]?.atMs ?? Infinity) - UNBOOKED_MS;
    let [sandboxes, vcpus, memoryMib, storageMib] = [0, 0, 0, 0];
    for (const [id, row] of this.#rows) {
      if (row.account !== account || row.endedAtMs !== null || but.some((one) => one.id === id)) continue;
      if (!row.booked && row.createdAtMs > overdueMs) continue;
      sandboxes += 1;
      if (last(row)?.to === "hibernated") continue;
      vcpus += row.cpu;
      memoryMib += row.memoryMib;
    }
    for (const row of this.#stored.values())
      if (row.account === account) storageMib += Math.ceil(row.sizeBytes / (1024 * 1024));
    return { sandboxes, vcpus, memoryMib, storageMib };
  }

  async inUse(account: string): Promise<InUse> {
    this.called("inUse");
    return this.#inUse(account);
  }

  async record(moves: readonly Move[]): Promise<void> {
    this.called("record");
    for (const move of moves) {
      const row = this.#row(move.account, move.sandbox, move.cpu, move.memoryMib, move.wallMs);
      if (row.account !== move.account) continue;
      row.moves.set(move.sequence, move);
      const end = last(row);
      if (end !== undefined && ENDED.test(end.to)) row.endedAtMs ??= end.wallMs;
    }
  }

  async recordStored(given: readonly Stored[]): Promise<void> {
    this.called("recordStored");
    for (const row of given) {
      const key = `${row.account}\0${row.kind}\0${row.id}`;
      if (row.sizeBytes === 0) this.#stored.delete(key);
      else this.#stored.set(key, row);
    }
  }

  async events(account: string, sandbox: string, tail: number): Promise<SandboxEventInfo[] | null> {
    this.called("events");
    const row = this.#rows.get(sandbox);
    if (row?.account !== account) return null;
    return rows.eventsOf(row, tail);
  }

  async provenMs(account: string, sandbox: string): Promise<number | null> {
    this.called("provenMs");
    const row = this.#rows.get(sandbox);
    return row?.account === account ? (rows.seenMs(row) ?? 0) : null;
  }

  async endedSandbox(account: string, sandbox: string): Promise<SandboxInfo | null> {
    this.called("endedSandbox");
    const row = this.#rows.get(sandbox);
    return row?.account === account ? rows.endedInfo(row) : null;
  }

  async heartbeat(beats: Parameters<Store["heartbeat"]>[0]): Promise<void> {
    this.called("heartbeat");
    for (const beat of beats) rows.beaten(this.#rows.get(beat.sandbox), beat);
  }

  /** What a sandbox ran to: as reconciled, else by its last proof of life; null when this store was told of nothing. */
  ranToMs(sandbox: string): number | null {
    const row = this.#rows.get(sandbox);
    return row === undefined ? null : (row.ranToMs ?? rows.seenMs(row));
  }

  async reconcile(...[live, ended, atMs]: Parameters<Store["reconcile"]>): Promise<number> {
    this.called("reconcile");
    const gone = [...this.#rows].filter(([id, row]) => row.endedAtMs === null && !live.has(id));
    for (const [id, row] of gone) {
      row.endedAtMs = atMs;
      row.ranToMs = ended.get(id)?.endMs ?? rows.seenMs(row);
      if (![...row.moves.values()].some(({ to }) => to === "running")) this.#forgetKeysOf(id);
    }
    return gone.length;
  }

  async forget(beforeMs: number): Promise<number> {
    this.called("forget");
    const kept = this.#audit.filter(({ at }) => Date.parse(at) >= beforeMs);
    let count = this.#audit.length - kept.length;
    this.#audit = kept;
    for (const [id, row] of this.#rows) {
      if (row.endedAtMs === null || row.endedAtMs >= beforeMs) continue;
      this.#rows.delete(id);
      count += 1 + row.moves.size;
    }
    for (const [key, { atMs }] of this.#idempotent) if (atMs < beforeMs && this.#idempotent.delete(key)) count += 1;
    return count;
  }

  async labelPort(account: string, sandbox: string, port: number, label: string | null): Promise<void> {
    this.called("labelPort");
    const key = `${account}\0${sandbox}`;
    this.#labels.set(key, (this.#labels.get(key) ?? new Map<number, string | null>()).set(port, label));
  }

  async unlabelPort(account: string, sandbox: string, port: number): Promise<boolean> {
    this.called("unlabelPort");
    return this.#labels.get(`${account}\0${sandbox}`)?.delete(port) ?? false;
  }

  async portLabels(account: string, sandbox: string): Promise<ReadonlyMap<number, string | null>> {
    this.called("portLabels");
    return new Map(this.#labels.get(`${account}\0${sandbox}`) ?? []);
  }

  async audit(entries: readonly AuditEntry[]): Promise<void> {
    this.called("audit");
    this.#audit.push(...entries);
  }

  async auditLog(account: string | null, { limit, before }: Parameters<Store["auditLog"]>[1]): Promise<AuditEntry[]> {
    this.called("auditLog");
    return this.#audit
      .filter((row) => (account ?? row.account) === row.account && (before === null || row.at < before))
      .reverse()
      .sort((a, b) => b.at.localeCompare(a.at))
      .slice(0, limit);
  }

  async createWebhook(account: string, info: WebhookInfo, secret: string): Promise<void> {
    this.called("createWebhook");
    this.#webhooks.set(info.id, { account, secret, info });
  }

  async webhooks(account: string): Promise<WebhookInfo[]> {
    this.called("webhooks");
    const waiting = (id: string) => [...this.#deliveries.values()].filter(({ webhook }) => webhook === id).length;
    return [...this.#webhooks.values()]
      .filter((webhook) => webhook.account === account)
      .map(({ info }) => ({ ...info, waiting: waiting(info.id) }));
  }

  async removeWebhook(account: string, id: string): Promise<boolean> {
    this.called("removeWebhook");
    if (this.#webhooks.get(id)?.account !== account) return false;
    for (const [delivery, { webhook }] of this.#deliveries) if (webhook === id) this.#deliveries.delete(delivery);
    return this.#webhooks.delete(id);
  }

  async enqueue(account: string, type: string, body: string, atMs: number): Promise<number> {
    this.called("enqueue");
    const wants = [...this.#webhooks.values()].filter(
      (hook) => hook.account === account && (hook.info.events.includes("*") || hook.info.events.includes(type)),
    );
    for (const { info, secret } of wants) {
      const id = nonce();
      const { id: webhook, url } = info;
      this.#deliveries.set(id, { id, webhook, url, secret, body, tries: 0, nextAtMs: atMs, leasedUntilMs: 0 });
    }
    return wants.length;
  }

  async due(atMs: number, limit: number, leaseMs: number): Promise<Delivery[]> {
    this.called("due");
    const due = [...this.#deliveries.values()]
      .filter((one) => one.nextAtMs <= atMs && one.leasedUntilMs <= atMs)
      .sort((a, b) => a.nextAtMs - b.nextAtMs)
      .slice(0, limit);
    return due.map((one) => {
      one.leasedUntilMs = atMs + leaseMs;
      const { id, webhook, url, secret, body, tries } = one;
      return { id, webhook, url, secret, body, tries };
    });
  }

  async settle(delivery: string, outcome: Parameters<Store["settle"]>[1]): Promise<void> {
    this.called("settle");
    const { status, nextAtMs, atMs } = outcome;
    const one = this.#deliveries.get(delivery);
    if (one === undefined) return;
    Object.assign(one, { tries: one.tries + 1, leasedUntilMs: 0 });
    const hook = this.#webhooks.get(one.webhook);
    if (hook !== undefined) hook.info = { ...hook.info, lastAt: iso(atMs), lastStatus: status };
    if (nextAtMs === null) this.#deliveries.delete(delivery);
    else one.nextAtMs = nextAtMs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listeners.clear();
  }
}
