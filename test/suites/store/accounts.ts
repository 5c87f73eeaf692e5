/** Accounts and their keys, as every store has to keep them. */
import { describe, expect, test } from "bun:test";
import { nonce } from "../../../src/base/id.ts";
import { until } from "../../harness/until.ts";
import { account, accountInfo, codeOf, newKey, type StoreForm, T0, UNLIMITED } from "./world.ts";

export function accountCases(form: () => StoreForm): void {
  describe("accounts", () => {
    test("Store.createAccount keeps all that it is given", async () => {
      const { store } = form();
      const quota = { sandboxes: 0, vcpus: 2, memoryMb: 2 ** 40, storageMb: 5, requestsPerSecond: 1 };
      const info = accountInfo({ name: "Zoë “Z” O'Neil", suspended: true, quota, creditUsd: "-0.000000000001" });
      await store.createAccount(info);
      expect(await store.account(info.id)).toEqual(info);
      expect(await store.accounts()).toContainEqual(info);
    });

    test("Store.createAccount refuses an id that is taken, and changes nothing", async () => {
      const { store } = form();
      const info = accountInfo();
      await store.createAccount(info);
      expect(await codeOf(store.createAccount({ ...info, name: "Another" }))).toBe("already_exists");
      expect(await store.account(info.id)).toEqual(info);
    });

    test("Store.account is null of one that there is not", async () => {
      const { store } = form();
      expect(await store.account("nobody")).toBeNull();
      expect(await store.account("no\u0000body")).toBeNull();
      expect(await store.updateAccount("nobody", { name: "x" })).toBeNull();
    });

    test("Store.updateAccount changes what is named and leaves the rest", async () => {
      const { store } = form();
      const info = accountInfo({ quota: { ...UNLIMITED, sandboxes: 3, vcpus: 4 }, creditUsd: "5" });
      await store.createAccount(info);
      const expected = { ...info, suspended: true, quota: { ...info.quota, vcpus: null, memoryMb: 7 } };
      expect(await store.updateAccount(info.id, { suspended: true, quota: { vcpus: null, memoryMb: 7 } })).toEqual(
        expected,
      );
      expect(await store.account(info.id)).toEqual(expected);
      expect(await store.updateAccount(info.id, { name: "New", creditUsd: null })).toEqual({
        ...expected,
        name: "New",
        creditUsd: null,
      });
      expect(await store.updateAccount(info.id, {})).toEqual({ ...expected, name: "New", creditUsd: null });
    });

    test("Store.updateAccount adds to what is left of credit, as many at one time as there are, and to nothing that is not prepaid", async () => {
      const { store, second } = form();
      const [mine, open] = [accountInfo({ creditUsd: "5.5" }), accountInfo()];
      for (const info of [mine, open]) await store.createAccount(info);
      const added = [store, second ?? store, store].map((by) => by.updateAccount(mine.id, { addCreditUsd: "0.25" }));
      await Promise.all(added);
      expect((await store.account(mine.id))?.creditUsd).toBe("6.25");
      expect(await store.updateAccount(mine.id, { name: "New", addCreditUsd: "-7" })).toEqual({
        ...mine,
        ...{ name: "New", creditUsd: "-0.75" },
      });
      expect(await codeOf(store.updateAccount(open.id, { name: "New", addCreditUsd: "1" }))).toBe("invalid_request");
      expect(await store.account(open.id)).toEqual(open);
      expect(await codeOf(store.updateAccount(mine.id, { addCreditUsd: "999999999999" }))).toBe("none");
      expect(await codeOf(store.updateAccount(mine.id, { addCreditUsd: "1.75" }))).toBe("invalid_request");
      expect((await store.account(mine.id))?.creditUsd).toBe("999999999998.25");
      expect(await store.updateAccount("nobody", { addCreditUsd: "1" })).toBeNull();
    });

    test("Store.secret is made once, and the same for every server", async () => {
      const { store, second } = form();
      const name = nonce();
      const made: string[] = [];
      const make = () => {
        made.push(nonce());
        return made.at(-1) ?? "";
      };
      const asked = await Promise.all(
        [store, second ?? store, store, second ?? store].map((one) => one.secret(name, make)),
      );
      expect(new Set(asked).size).toBe(1);
      expect(made).toContain(asked[0] ?? "none");
      expect(await store.secret(name, () => "another")).toBe(asked[0] ?? "none");
    });
  });

  describe("keys", () => {
    test("Store.keyByHash tells of a key with its account, until it is revoked", async () => {
      const { store } = form();
      const info = accountInfo({ creditUsd: "12.5" });
      await store.createAccount(info);
      const key = newKey({ label: 'a "label", {with} all', scopes: ["sandbox:write", "admin"], expiresAtMs: T0 + 1 });
      await store.createKey(info.id, key);
      const { prefix, label, scopes, expiresAtMs } = key;
      expect(await store.keyByHash(key.hash)).toEqual({ prefix, label, scopes, expiresAtMs, account: info });
      expect(await store.keyByHash("0".repeat(64))).toBeNull();
      expect(await store.revokeKey(info.id, key.prefix)).toBe(true);
      expect(await store.keyByHash(key.hash)).toBeNull();
      expect(await store.revokeKey(info.id, key.prefix)).toBe(false);
      await store.createKey(info.id, key); // an operator may take back what it revoked
      expect(await store.keyByHash(key.hash)).toMatchObject({ prefix: key.prefix });
      expect(await store.revokeKey(info.id, key.prefix)).toBe(true);
    });

    test("Store.createKey is not_found where there is no such account", async () => {
      const { store } = form();
      const key = newKey();
      expect(await codeOf(store.createKey("nobody", key))).toBe("not_found");
      expect(await store.keyByHash(key.hash)).toBeNull();
    });

    test("Store.createKey is already_exists where there is one with its prefix, whoever has it", async () => {
      const { store } = form();
      const [mine, other] = [await account(store), await account(store)];
      const key = newKey();
      await store.createKey(mine, key);
      for (const owner of [mine, other]) {
        expect(await codeOf(store.createKey(owner, newKey({ prefix: key.prefix })))).toBe("already_exists");
        expect(await codeOf(store.createKey(owner, key))).toBe("already_exists");
      }
      await store.revokeKey(mine, key.prefix);
      expect(await codeOf(store.createKey(other, key))).toBe("already_exists");
      expect(await store.keys(other)).toEqual([]);
      expect(await store.keyByHash(key.hash)).toBeNull();
    });

    test("Store.keys lists those that are not revoked, newest first, and when they were last used", async () => {
      const { store } = form();
      const mine = await account(store);
      const keys = [0, 1, 2].map((i) => newKey({ label: `key ${i}`, createdAtMs: T0 + i }));
      for (const key of keys) await store.createKey(mine, key);
      const [first, middle] = keys;
      await store.revokeKey(mine, middle?.prefix ?? "");
      await store.touchKeys(
        new Map([
          [first?.prefix ?? "", T0 + 90],
          ["no_such", T0],
        ]),
      );
      await store.touchKeys(new Map([[first?.prefix ?? "", T0 + 50]]));
      await store.touchKeys(new Map());
      const listed = await store.keys(mine);
      expect(listed.map(({ label }) => label)).toEqual(["key 2", "key 0"]);
      expect(listed.map(({ lastUsedAt }) => lastUsedAt)).toEqual([null, new Date(T0 + 90).toISOString()]);
      expect(listed[1]).toEqual({
        ...{ prefix: first?.prefix ?? "", label: "key 0", scopes: ["sandbox:read"], expiresAt: null },
        createdAt: new Date(T0).toISOString(),
        lastUsedAt: new Date(T0 + 90).toISOString(),
      });
    });

    test("Store.onKeysChanged tells of every change before the call that made it returns, until it is called off", async () => {
      const { store } = form();
      const mine = await account(store);
      let told = 0;
      const off = store.onKeysChanged(() => {
        told += 1;
      });
      const key = newKey();
      const changes = [
        () => store.createKey(mine, key),
        () => store.updateAccount(mine, { suspended: true }),
        () => store.updateAccount(mine, { creditUsd: "3" }),
        () => store.revokeKey(mine, key.prefix),
      ];
      for (const change of changes) {
        told = 0;
        await change();
        expect(told > 0).toBe(true);
      }
      off();
      told = 0;
      await store.createKey(mine, newKey());
      expect(told).toBe(0);
    });

    test("Store.onKeysChanged tells other servers too", async () => {
      const { store, second } = form();
      if (second === null) return; // one process has the whole database
      const mine = await account(store);
      const key = newKey();
      await store.createKey(mine, key);
      for (const change of [
        () => store.updateAccount(mine, { creditUsd: "3" }),
        () => store.updateAccount(mine, { quota: { vcpus: 1 } }),
        () => store.revokeKey(mine, key.prefix),
      ]) {
        let told = 0;
        const off = second.onKeysChanged(() => {
          told += 1;
        });
        await change();
        await until("the other server is told", () => told > 0);
        off();
      }
    });
  });
}
