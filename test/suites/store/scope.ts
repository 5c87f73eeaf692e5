/** What one account has, another neither sees nor changes: over every method that takes an account. */
import { describe, expect, test } from "bun:test";
import type { Store } from "../../../src/api/store.ts";
import { account, booking, LIFE, movesOf, newId, newKey, type StoreForm, sandboxInfo, T0, webhook } from "./world.ts";

/** Their first parameter is text and no account, or the account itself is what they are about. */
type Other =
  | ("account" | "updateAccount" | "secret" | "keyByHash" | "settle")
  | ("correct" | "removeSink" | "pricing" | "subscribeTo");
/** Methods whose first parameter is text. */
type Texted = {
  [K in keyof Store]: Store[K] extends (...given: infer A extends [unknown, ...unknown[]]) => Promise<unknown>
    ? [A[0]] extends [string | null]
      ? K
      : never
    : never;
}[keyof Store];
type Scoped = Exclude<Texted, Other>;

interface Owned {
  readonly sandbox: string;
  readonly ended: string;
  readonly prefix: string;
  readonly webhook: string;
}

/** What another account gets that names what is not its own. A method that takes an account and is not here does not compile. */
const ATTEMPTS = {
  createKey: (store, other) => store.createKey(other, newKey()),
  keys: async (store, other, { prefix }) => (await store.keys(other)).find((key) => key.prefix === prefix) ?? null,
  revokeKey: (store, other, { prefix }) => store.revokeKey(other, prefix),
  admit: async (store, other) => {
    const told = await store.admit(other, [booking()], { key: "theirs", requestHash: "another" });
    return told.kind === "booked" ? null : told;
  },
  cancel: (store, other, { sandbox }) => store.cancel(other, [sandbox]),
  describe: (store, other, { sandbox, ended }) =>
    store.describe(other, [sandboxInfo(sandbox, { notes: ["taken"] }), sandboxInfo(ended, { notes: ["taken"] })]),
  inUse: async (store, other) => {
    const { vcpus, storageMib } = await store.inUse(other);
    return vcpus < 32 && storageMib === 0 ? null : { vcpus, storageMib };
  },
  events: (store, other, { sandbox }) => store.events(other, sandbox, 10),
  provenMs: (store, other, { sandbox }) => store.provenMs(other, sandbox),
  endedSandbox: (store, other, { ended }) => store.endedSandbox(other, ended),
  labelPort: (store, other, { sandbox }) => store.labelPort(other, sandbox, 80, "taken"),
  unlabelPort: (store, other, { sandbox }) => store.unlabelPort(other, sandbox, 443),
  portLabels: async (store, other, { sandbox }) => (await store.portLabels(other, sandbox)).get(443) ?? null,
  auditLog: async (store, other) => (await store.auditLog(other, { limit: 1000, before: null }))[0] ?? null,
  createWebhook: (store, other) => store.createWebhook(other, webhook({ events: ["sandbox.failed"] }), "s"),
  webhooks: async (store, other, owned) => (await store.webhooks(other)).find(({ id }) => id === owned.webhook) ?? null,
  removeWebhook: (store, other, owned) => store.removeWebhook(other, owned.webhook),
  enqueue: async (store, other) => (await store.enqueue(other, "sandbox.deleted", "{}", T0 + 1e12)) || null,
  usage: async (store, other) => {
    const question = { fromMs: T0 - 1e6, toMs: T0 + 1e6, timeZone: "UTC", groupBy: [] };
    const { total, rows } = await store.usage(other, question, T0 + 1e6);
    return total === "0" && rows.every(({ meters }) => Object.keys(meters).length === 0) ? null : rows;
  },
  usageEntries: async (store, other) => {
    const page = { fromMs: T0 - 1e6, toMs: T0 + 1e6, timeZone: "UTC", after: null, limit: 10 };
    return (await store.usageEntries(other, page, T0 + 1e6)).items[0] ?? null;
  },
  sandboxUsage: (store, other, { ended }) => store.sandboxUsage(other, ended),
  invoices: async (store, other) =>
    (await store.invoices(other, T0 + 1e6)).find(({ account: of }) => of !== other) ?? null,
  invoice: (store, other) => store.invoice(other, "2030-01-0001", T0 + 1e6),
} as const satisfies Record<Scoped, (store: Store, other: string, owned: Owned) => Promise<unknown>>;

export function scopeCases(form: () => StoreForm): void {
  describe("another account", () => {
    /** All that the owner can see. */
    const seen = async (store: Store, mine: string, { sandbox, ended }: Owned) => ({
      account: await store.account(mine),
      keys: await store.keys(mine),
      inUse: await store.inUse(mine),
      events: [await store.events(mine, sandbox, 10), await store.events(mine, ended, 10)],
      ended: await store.endedSandbox(mine, ended),
      labels: [...(await store.portLabels(mine, sandbox))],
      audit: await store.auditLog(mine, { limit: 1000, before: null }),
      webhooks: await store.webhooks(mine),
    });

    test.each(Object.keys(ATTEMPTS) as Scoped[])(
      "Store.%s neither tells nor changes what is another's",
      async (method) => {
        const { store } = form();
        const [mine, other] = [await account(store, { creditUsd: "7" }), await account(store)];
        const owned: Owned = { sandbox: newId(), ended: newId(), prefix: newKey().prefix, webhook: webhook().id };
        await store.createKey(mine, newKey({ prefix: owned.prefix }));
        await store.admit(mine, [booking({ id: owned.sandbox, cpu: 32 })], { key: "theirs", requestHash: "mine" });
        await store.record([...movesOf(mine, owned.sandbox, LIFE.slice(0, 2)), ...movesOf(mine, owned.ended, LIFE)]);
        await store.describe(mine, [sandboxInfo(owned.sandbox), sandboxInfo(owned.ended)]);
        await store.recordStored([
          { kind: "volume", id: "v", account: mine, sizeBytes: 1e9, monotonicMs: T0, wallMs: T0 },
        ]);
        await store.labelPort(mine, owned.sandbox, 443, "mine");
        await store.audit([
          ...[
            {
              at: new Date(T0).toISOString(),
              account: mine,
              actor: "a",
              action: "b",
              target: null,
              status: 200,
              requestId: "r",
            },
          ],
        ]);
        await store.createWebhook(mine, webhook({ id: owned.webhook, events: ["sandbox.deleted"] }), "secret");
        const before = await seen(store, mine, owned);
        expect(before.ended).not.toBeNull();

        const told = await ATTEMPTS[method](store, other, owned);
        expect([null, false, undefined]).toContain(told as null);
        expect(await seen(store, mine, owned)).toEqual(before);
      },
    );

    test("Store.record does not take moves of a sandbox that is another's", async () => {
      const { store } = form();
      const [mine, other] = [await account(store), await account(store)];
      const id = newId();
      await store.record(movesOf(mine, id, LIFE.slice(0, 2)));
      await store.record(movesOf(other, id, LIFE));
      expect((await store.events(mine, id, 10))?.length).toBe(2);
      expect(await store.events(other, id, 10)).toBeNull();
    });
  });
}
