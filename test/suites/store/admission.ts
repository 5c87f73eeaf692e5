/** Who may have what: quotas, credit, keys that make a request one, and many asking at once. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Admission, UNBOOKED_MS } from "../../../src/api/store.ts";
import { account, booking, LIFE, movesOf, newId, type StoreForm, T0, UNLIMITED } from "./world.ts";

const BOOKED: Admission = { kind: "booked" };
const quota = (limits: Partial<typeof UNLIMITED>) => ({ quota: { ...UNLIMITED, ...limits } });

export function admissionCases(form: () => StoreForm): void {
  describe("admit", () => {
    test("Store.admit books without bound where there is no quota", async () => {
      const { store } = form();
      const mine = await account(store);
      expect(await store.admit(mine, [booking({ cpu: 32, memoryMib: 65_536 }), booking()], null)).toEqual(BOOKED);
      expect(await store.inUse(mine)).toEqual({ sandboxes: 2, vcpus: 33, memoryMib: 66_048, storageMib: 0 });
    });

    test.each([
      ["sandboxes", 2, 1],
      ["vcpus", 5, 2],
      ["memoryMb", 1300, 512],
    ] as const)("Store.admit holds an account to its %s", async (name, limit, asked) => {
      const { store } = form();
      const mine = await account(store, quota({ [name]: limit }));
      const two = () => [booking({ cpu: 2, memoryMib: 512 }), booking({ cpu: 2, memoryMib: 512 })];
      expect(await store.admit(mine, two(), null)).toEqual(BOOKED);
      const used = { sandboxes: 2, vcpus: 4, memoryMb: 1024 }[name];
      const refusal = { kind: "over-quota", quota: name, limit, used } as const;
      expect(await store.admit(mine, [booking({ cpu: 2 })], null)).toEqual({ ...refusal, asked });
      expect(await store.admit(mine, two(), null)).toEqual({ ...refusal, asked: 2 * asked });
      expect((await store.inUse(mine)).sandboxes).toBe(2);
    });

    test("Store.admit books all or none", async () => {
      const { store } = form();
      const mine = await account(store, quota({ sandboxes: 3 }));
      await store.admit(mine, [booking()], null);
      expect((await store.admit(mine, [booking(), booking(), booking()], null)).kind).toBe("over-quota");
      expect((await store.inUse(mine)).sandboxes).toBe(1);
      expect(await store.admit(mine, [booking(), booking()], null)).toEqual(BOOKED);
    });

    test("Store.admit refuses who is suspended, and who has no credit left", async () => {
      const { store } = form();
      const suspended = await account(store, { suspended: true });
      expect(await store.admit(suspended, [booking()], null)).toEqual({ kind: "suspended" });
      const poor = await account(store, { creditUsd: "0" });
      expect(await store.admit(poor, [booking()], null)).toEqual({ kind: "no-credit", creditUsd: "0" });
      await store.updateAccount(poor, { creditUsd: "0.000000000001" });
      expect(await store.admit(poor, [booking()], null)).toEqual(BOOKED);
    });

    test("Store.admit gives a key's first sandbox again, also after its end, and refuses it for another request", async () => {
      const { store } = form();
      const mine = await account(store, quota({ sandboxes: 1 }));
      const first = booking();
      const key = { key: 'k"1', requestHash: "h1" };
      expect(await store.admit(mine, [first], key)).toEqual(BOOKED);
      const replayed: Admission = { kind: "replayed", sandbox: first.id };
      expect(await store.admit(mine, [booking()], key)).toEqual(replayed);
      expect(await store.admit(mine, [booking()], { ...key, requestHash: "h2" })).toEqual({ kind: "conflict" });
      await store.record(movesOf(mine, first.id, LIFE));
      expect(await store.admit(mine, [booking()], key)).toEqual(replayed);
      const theirs = await account(store);
      expect(await store.admit(theirs, [booking()], { ...key, requestHash: "h2" })).toEqual(BOOKED);
    });

    test("Store.admit keeps no key of what it refused", async () => {
      const { store } = form();
      const mine = await account(store, quota({ sandboxes: 0 }));
      const key = { key: "k", requestHash: "h1" };
      expect((await store.admit(mine, [booking()], key)).kind).toBe("over-quota");
      await store.updateAccount(mine, { quota: { sandboxes: 1 } });
      expect(await store.admit(mine, [booking()], { ...key, requestHash: "h2" })).toEqual(BOOKED);
    });

    test("Store.admit of one key asked for many times at once books one", async () => {
      const { store, second } = form();
      const mine = await account(store);
      const asked = Array.from({ length: 16 }, (_, i) => ({
        one: booking(),
        by: i % 2 === 0 ? store : (second ?? store),
      }));
      const told = await Promise.all(
        asked.map(({ one, by }) => by.admit(mine, [one], { key: "once", requestHash: "same" })),
      );
      const winner = asked.find((_, i) => told[i]?.kind === "booked")?.one.id ?? "nobody";
      expect(told.filter(({ kind }) => kind === "booked").length).toBe(1);
      expect(told.filter((one) => one.kind === "replayed" && one.sandbox === winner).length).toBe(15);
      expect((await store.inUse(mine)).sandboxes).toBe(1);
    });

    test("Store.admit never lets an account over its quota, whoever asks at once and whatever ends meanwhile", async () => {
      const { store, second } = form();
      const stores = [store, second ?? store];
      const sizes = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 20, maxLength: 40 });
      await fc.assert(
        fc.asyncProperty(sizes, fc.integer({ min: 4, max: 20 }), async (cpus, limit) => {
          const mine = await account(store, quota({ vcpus: limit }));
          let mostVcpus = 0;
          const ask = async (cpu: number, i: number) => {
            const by = stores[i % 2] ?? store;
            const one = booking({ cpu });
            const { kind } = await by.admit(mine, [one], null);
            mostVcpus = Math.max(mostVcpus, (await by.inUse(mine)).vcpus);
            if (kind === "booked" && i % 3 === 0) await by.cancel(mine, [one.id]);
            return kind === "booked" && i % 3 !== 0 ? cpu : 0;
          };
          const kept = (await Promise.all(cpus.map(ask))).reduce((sum, cpu) => sum + cpu, 0);
          expect(mostVcpus).toBeLessThanOrEqual(limit);
          expect((await store.inUse(mine)).vcpus).toBe(kept);
        }),
        { numRuns: 8 },
      );
    });

    test("Store.cancel gives back what was booked, and the key", async () => {
      const { store } = form();
      const mine = await account(store, quota({ sandboxes: 1 }));
      const [one, key] = [booking(), { key: "k", requestHash: "h" }];
      await store.admit(mine, [one], key);
      await store.cancel(mine, [one.id, "sb_never"]);
      expect((await store.inUse(mine)).sandboxes).toBe(0);
      expect(await store.events(mine, one.id, 10)).toBeNull();
      expect(await store.admit(mine, [booking()], key)).toEqual(BOOKED);
    });

    test("Store.inUse follows a sandbox's moves: all of it until it ends, only itself while it hibernates", async () => {
      const { store } = form();
      const mine = await account(store);
      const one = booking({ cpu: 2 });
      await store.admit(mine, [one], null);
      const steps = movesOf(mine, one.id, [
        ["creating", 0],
        ["running", 1],
        ["hibernated", 2],
        ["running", 3],
        ["stopping", 4],
        ["deleted", 5],
      ]);
      const seen: string[] = [];
      for (const move of steps) {
        await store.record([move]);
        const { sandboxes, vcpus, memoryMib } = await store.inUse(mine);
        seen.push(`${sandboxes} ${vcpus} ${memoryMib}`);
      }
      expect(seen).toEqual(["1 2 512", "1 2 512", "1 0 0", "1 2 512", "1 2 512", "0 0 0"]);
    });

    test("Store.admit does not count a sandbox twice that has moved before it was booked", async () => {
      const { store } = form();
      const mine = await account(store, quota({ sandboxes: 1, vcpus: 1 }));
      const one = booking();
      await store.record(movesOf(mine, one.id, LIFE.slice(0, 2)));
      expect(await store.admit(mine, [one], null)).toEqual(BOOKED);
      expect((await store.inUse(mine)).sandboxes).toBe(1);
      const over = { kind: "over-quota", quota: "sandboxes", limit: 1, used: 1, asked: 1 } as const;
      expect(await store.admit(mine, [booking({ atMs: T0 + 5 })], null)).toEqual(over);
    });

    test("Store.admit is not held up by what has moved and is asked for at the same time", async () => {
      const { store } = form();
      const mine = await account(store, quota({ sandboxes: 2, vcpus: 2 }));
      const asked = Array.from({ length: 5 }, () => booking({ atMs: T0 + 50 }));
      await store.record(asked.flatMap(({ id }) => movesOf(mine, id, LIFE.slice(0, 2))));
      const kinds: string[] = [];
      for (const one of asked) kinds.push((await store.admit(mine, [one], null)).kind);
      expect(kinds).toEqual(["booked", "booked", "over-quota", "over-quota", "over-quota"]);
    });

    test("Store.admit counts what was never booked, once its booking is overdue", async () => {
      const { store } = form();
      const mine = await account(store, quota({ sandboxes: 1 }));
      await store.record(movesOf(mine, newId(), LIFE.slice(0, 2)));
      const over = { kind: "over-quota", quota: "sandboxes", limit: 1, used: 1, asked: 1 } as const;
      expect(await store.admit(mine, [booking({ atMs: T0 + UNBOOKED_MS })], null)).toEqual(over);
      expect(await store.admit(mine, [booking({ atMs: T0 + UNBOOKED_MS - 1 })], null)).toEqual(BOOKED);
    });
  });

  describe("admit of one that wakes", () => {
    const asleep = [...LIFE.slice(0, 2), ["hibernated", 1000, { event: "hibernated" }]] as const;

    /** An account with one sandbox that sleeps, of 2 vCPUs and 1024 MiB. */
    async function sleeper(store: StoreForm["store"], limits: Partial<typeof UNLIMITED>) {
      const mine = await account(store, quota(limits));
      const one = booking({ cpu: 2, memoryMib: 1024 });
      expect(await store.admit(mine, [one], null)).toEqual(BOOKED);
      await store.record(movesOf(mine, one.id, asleep, { cpu: 2, memoryMib: 1024 }));
      return { mine, wake: { ...one, template: "other", atMs: T0 + 2000 } };
    }

    test("Store.admit of one that wakes counts it once, and leaves it as it is", async () => {
      const { store } = form();
      const { mine, wake } = await sleeper(store, { sandboxes: 1, vcpus: 2, memoryMb: 1024 });
      const before = await store.inUse(mine);
      expect(await store.admit(mine, [wake], null)).toEqual(BOOKED);
      expect(await store.inUse(mine)).toEqual(before);
      await store.cancel(mine, [wake.id]);
      expect((await store.events(mine, wake.id, 10))?.length).toBe(3);
      expect(await store.inUse(mine)).toEqual(before);
      const again = { ...booking({ cpu: 2, memoryMib: 1024 }), atMs: T0 + 2000 };
      const over = { kind: "over-quota", quota: "sandboxes", limit: 1, used: 1, asked: 1 } as const;
      expect(await store.admit(mine, [again], null)).toEqual(over);
      await store.record(movesOf(mine, wake.id, [...asleep, ["running", 2000]], { cpu: 2, memoryMib: 1024 }).slice(-1));
      expect(await store.admit(mine, [wake], null)).toEqual(BOOKED);
      await store.updateAccount(mine, { quota: { sandboxes: 0 } });
      expect(await store.admit(mine, [wake], null)).toEqual(BOOKED);
    });

    test.each([
      ["vcpus", 3, 2, 2],
      ["memoryMb", 1500, 512, 1024],
    ] as const)("Store.admit of one that wakes holds the account to its %s", async (name, limit, used, asked) => {
      const { store } = form();
      const { mine, wake } = await sleeper(store, { [name]: limit });
      expect(await store.admit(mine, [booking({ cpu: 2, memoryMib: 512 })], null)).toEqual(BOOKED);
      const over = { kind: "over-quota", quota: name, limit, used, asked } as const;
      expect(await store.admit(mine, [wake], null)).toEqual(over);
      expect((await store.inUse(mine)).sandboxes).toBe(2);
    });

    test("Store.admit of one that wakes refuses who is suspended, and who has no credit left", async () => {
      const { store } = form();
      const { mine, wake } = await sleeper(store, {});
      await store.updateAccount(mine, { creditUsd: "0" });
      expect(await store.admit(mine, [wake], null)).toEqual({ kind: "no-credit", creditUsd: "0" });
      await store.updateAccount(mine, { suspended: true });
      expect(await store.admit(mine, [wake], null)).toEqual({ kind: "suspended" });
    });
  });
}
