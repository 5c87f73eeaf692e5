/** What a case of the store suite is given: a store, accounts of its own, and rows to put in. */
import type { Booking, NewKey, Store } from "../../../src/api/store.ts";
import { nonce } from "../../../src/base/id.ts";
import type { Move } from "../../../src/contract/move.ts";
import type { AccountInfo } from "../../../src/contract/routes/api/accounts.ts";
import type { WebhookInfo } from "../../../src/contract/routes/api/webhooks.ts";
import type { SandboxInfo, SandboxState } from "../../../src/contract/routes/sandboxes.ts";
import { isWarrenError } from "../../../src/errors.ts";
import type { Usage } from "../../../src/meter/fold.ts";

export interface OpenMeter {
  readonly sinceMs: bigint;
  /** Level meter → units. */
  readonly charged: Readonly<Record<string, number>>;
}

/** One implementation, as the suite is given it. */
export interface StoreForm {
  readonly store: Store;
  /** Another server on the same database; null: there can be none. */
  readonly second: Store | null;
  /** What is kept of a sandbox's use; null: it keeps none. */
  readonly meter:
    | ((
        sandbox: string,
      ) => Promise<{ closed: Usage & Readonly<Record<string, bigint>>; open: OpenMeter | null } | null>)
    | null;
}

export const T0 = Date.UTC(2030, 0, 1);
export const UNLIMITED: AccountInfo["quota"] = {
  ...{ sandboxes: null, vcpus: null, memoryMb: null, storageMb: null, requestsPerSecond: null },
};

export function accountInfo(change: Partial<AccountInfo> = {}): AccountInfo {
  return {
    id: `acc-${nonce()}`,
    name: "An account",
    createdAt: new Date(T0).toISOString(),
    suspended: false,
    quota: UNLIMITED,
    creditUsd: null,
    ...{ onEmpty: "nothing", timeZone: "UTC", billTo: null },
    ...change,
  };
}

/** A new account of the store's; its id. */
export async function account(store: Store, change: Partial<AccountInfo> = {}): Promise<string> {
  const info = accountInfo(change);
  await store.createAccount(info);
  return info.id;
}

export function newKey(change: Partial<NewKey> = {}): NewKey {
  const prefix = `wrn_${nonce()}`;
  const hash = new Bun.CryptoHasher("sha256").update(prefix).digest("hex");
  return { hash, prefix, label: "a key", scopes: ["sandbox:read"], createdAtMs: T0, expiresAtMs: null, ...change };
}

export const newId = () => `sb_${nonce()}`;

export function booking(change: Partial<Booking> = {}): Booking {
  return { id: newId(), cpu: 1, memoryMib: 512, template: "base", atMs: T0, ...change };
}

export type Step = readonly [to: SandboxState, atMs: number, extra?: Partial<Move>];

/** A sandbox's moves through these states, its first with sequence 1. */
export function movesOf(account: string, sandbox: string, steps: readonly Step[], size: Partial<Move> = {}): Move[] {
  return steps.map(([to, atMs, extra], i) => ({
    ...{ sandbox, account, template: "base", cpu: 1, memoryMib: 512, sequence: i + 1, event: "moved", reason: null },
    ...{ from: steps[i - 1]?.[0] ?? null, to, monotonicMs: T0 + atMs, wallMs: T0 + atMs },
    ...size,
    ...extra,
  }));
}

export const LIFE: readonly Step[] = [
  ["creating", 0, { event: "created" }],
  ["running", 40, { event: "booted" }],
  ["stopping", 60_040, { event: "close", reason: "closed" }],
  ["deleted", 60_100, { event: "reaped", reason: "closed" }],
];

export function sandboxInfo(id: string, change: Partial<SandboxInfo> = {}): SandboxInfo {
  return {
    ...{ id, template: "base", cpu: 1, memoryMb: 512, state: "running", reason: null, detached: true },
    metadata: { who: 'it\'s "me", {x} \\u0000 \\\\' },
    createdAt: new Date(T0).toISOString(),
    expiresAt: null,
    ...{ createMs: 12.5, createPath: "ready", parentId: null, snapshotId: null, volumes: [] },
    egress: { mode: "allowlist", allow: ["example.com:443"] },
    ...{ ownerPid: 7, notes: ["a note"] },
    ...change,
  };
}

export function webhook(change: Partial<WebhookInfo> = {}): WebhookInfo {
  return {
    ...{ id: `wh_${nonce()}`, url: "https://example.com/hook", events: ["*"], createdAt: new Date(T0).toISOString() },
    ...{ waiting: 0, lastAt: null, lastStatus: null },
    ...change,
  };
}

/** Code of the error that a call fails with; `none` when it does not. Not by `rejects`, which keeps a worker from answering. */
export async function codeOf(job: Promise<unknown>): Promise<string> {
  const error = await job.then(
    () => "none",
    (thrown: unknown) => thrown,
  );
  return isWarrenError(error) ? error.code : String(error);
}
