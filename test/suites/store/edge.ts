/** What else is kept for an account: labels of ports, who did what, webhooks and what waits for them. */
import { describe, expect, test } from "bun:test";
import type { AuditEntry } from "../../../src/contract/routes/api/accounts.ts";
import { account, newId, type StoreForm, T0, webhook } from "./world.ts";

const at = (ms: number) => new Date(T0 + ms).toISOString();

export function edgeCases(form: () => StoreForm): void {
  describe("ports", () => {
    test("Store.labelPort is told by portLabels until it is taken off", async () => {
      const { store } = form();
      const mine = await account(store);
      const id = newId();
      await store.labelPort(mine, id, 8080, "web");
      await store.labelPort(mine, id, 9, null);
      await store.labelPort(mine, id, 8080, "site");
      expect(await store.portLabels(mine, id)).toEqual(
        new Map([
          [9, null],
          [8080, "site"],
        ]),
      );
      expect(await store.unlabelPort(mine, id, 8080)).toBe(true);
      expect(await store.unlabelPort(mine, id, 8080)).toBe(false);
      expect([...(await store.portLabels(mine, id)).keys()]).toEqual([9]);
      expect((await store.portLabels(mine, "sb_never")).size).toBe(0);
    });
  });

  describe("audit", () => {
    const entry = (mine: string | null, ms: number, requestId: string): AuditEntry => ({
      ...{ at: at(ms), account: mine, actor: "wrn_x", action: "create", target: "sb_1", status: 201, requestId },
    });

    test("Store.auditLog tells newest first, of one account or of all, page by page", async () => {
      const { store } = form();
      const [mine, theirs] = [await account(store), await account(store)];
      const rows = [
        entry(mine, 1, "1"),
        entry(theirs, 2, "2"),
        entry(mine, 3, "3"),
        entry(mine, 3, "3b"),
        entry(null, 4, "4"),
      ];
      await store.audit(rows);
      await store.audit([]);
      const log = (of: string | null, limit: number, before: string | null) => store.auditLog(of, { limit, before });
      const ids = async (of: string | null, limit: number, before: string | null) =>
        (await log(of, limit, before)).map(({ requestId }) => requestId);
      expect(await log(mine, 1, null)).toEqual([entry(mine, 3, "3b")]);
      expect(await ids(mine, 10, null)).toEqual(["3b", "3", "1"]);
      expect(await ids(mine, 10, at(3))).toEqual(["1"]);
      expect(await ids(mine, 10, at(1))).toEqual([]);
      expect((await ids(null, 1000, null)).filter((id) => ["1", "2", "3", "3b", "4"].includes(id)).slice(0, 1)).toEqual(
        ["4"],
      );
      expect(await log(null, 1000, null)).toContainEqual(entry(theirs, 2, "2"));
    });
  });

  describe("webhooks", () => {
    test("Store.webhooks lists an account's, with what waits and how the last try ended", async () => {
      const { store } = form();
      const mine = await account(store);
      const [first, second] = [webhook({ events: ["sandbox.running"] }), webhook({ createdAt: at(5) })];
      await store.createWebhook(mine, first, "secret-1");
      await store.createWebhook(mine, second, "secret-2");
      expect(await store.webhooks(mine)).toEqual([first, second]);
      expect(await store.enqueue(mine, "sandbox.deleted", '{"n":1}', T0)).toBe(1);
      expect(await store.enqueue(mine, "sandbox.running", '{"n":2}', T0)).toBe(2);
      expect((await store.webhooks(mine)).map(({ waiting }) => waiting)).toEqual([1, 2]);
      expect(await store.removeWebhook(mine, second.id)).toBe(true);
      expect(await store.removeWebhook(mine, second.id)).toBe(false);
      expect((await claimed(form(), T0 + 1, [first.id, second.id])).map(({ body }) => body)).toEqual(['{"n":2}']);
    });

    test("Store.due claims what is due for its lease, and again after it, until it is settled", async () => {
      const { store } = form();
      const mine = await account(store);
      const hook = webhook();
      await store.createWebhook(mine, hook, "s3cret");
      const body = '{"a": "spaces  and \\u00e9 stay"}';
      await store.enqueue(mine, "sandbox.running", body, T0 + 100);
      const claim = (ms: number) => claimed(form(), T0 + ms, [hook.id]);
      expect(await claim(99)).toEqual([]);
      const [one] = await claim(100);
      expect(one).toEqual({ id: one?.id ?? "", webhook: hook.id, url: hook.url, secret: "s3cret", body, tries: 0 });
      expect(await claim(100 + LEASE_MS - 1)).toEqual([]);
      expect((await claim(100 + LEASE_MS)).map(({ id }) => id)).toEqual([one?.id ?? ""]);
      await store.settle(one?.id ?? "", { status: 500, nextAtMs: T0 + 50_000, atMs: T0 + 30_000 });
      expect(await store.webhooks(mine)).toEqual([{ ...hook, waiting: 1, lastAt: at(30_000), lastStatus: 500 }]);
      expect(await claim(49_999)).toEqual([]);
      expect(await claim(50_000)).toMatchObject([{ id: one?.id ?? "", tries: 1 }]);
      await store.settle(one?.id ?? "", { status: null, nextAtMs: null, atMs: T0 + 60_000 });
      expect(await store.webhooks(mine)).toEqual([{ ...hook, waiting: 0, lastAt: at(60_000), lastStatus: null }]);
      expect(await claim(1e9)).toEqual([]);
      await store.settle("no-such-delivery", { status: 200, nextAtMs: null, atMs: T0 });
    });

    test("Store.due gives each delivery to one of many that ask at once", async () => {
      const { store, second } = form();
      const mine = await account(store);
      const hook = webhook();
      await store.createWebhook(mine, hook, "s");
      for (let i = 0; i < 30; i++) await store.enqueue(mine, "sandbox.running", String(i), T0 + i);
      const asked = Array.from({ length: 10 }, (_, i) =>
        (i % 2 === 0 ? store : (second ?? store)).due(T0 + 40, 5, LEASE_MS),
      );
      const all = (await Promise.all(asked)).flat().filter((one) => one.webhook === hook.id);
      expect(new Set(all.map(({ id }) => id)).size).toBe(all.length);
      const rest = await claimed(form(), T0 + 40, [hook.id]);
      expect([...all, ...rest].map(({ body }) => Number(body)).sort((a, b) => a - b)).toEqual(
        Array.from({ length: 30 }, (_, i) => i),
      );
    });
  });
}

const LEASE_MS = 1000;

/** Of these webhooks all that is due; others' deliveries are claimed on the way. */
async function claimed({ store }: StoreForm, atMs: number, hooks: readonly string[]) {
  return (await store.due(atMs, 1000, LEASE_MS)).filter(({ webhook: id }) => hooks.includes(id));
}
