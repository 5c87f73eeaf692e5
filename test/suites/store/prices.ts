/** Price lists, plans, who has which, and credit by them: what is refused says which and why; what one account pays is its own. */
import { describe, expect, test } from "bun:test";
import type { Store } from "../../../src/api/store.ts";
import { nonce } from "../../../src/base/id.ts";
import type { PlanInfo } from "../../../src/contract/routes/api/billing.ts";
import { isWarrenError } from "../../../src/errors.ts";
import { account, booking, codeOf, LIFE, movesOf, newId, type StoreForm, T0 } from "./world.ts";

const DAY_MS = 86_400_000;
const name = () =>
  `n${nonce()
    .toLowerCase()
    .replace(/[^a-z0-9]/g, "")}`;
const dayAt = (ms: number) => new Date(ms).toISOString().slice(0, 10);

/** Code and words of what a call is refused with. */
async function refusal(job: Promise<unknown>): Promise<string> {
  const thrown = await job.then(
    () => null,
    (error: unknown) => error,
  );
  return isWarrenError(thrown) ? `${thrown.code} ${thrown.message}` : String(thrown);
}

export function priceCases(form: () => StoreForm, skips: { readonly meter?: string }): void {
  const booked = test.skipIf(skips.meter !== undefined);
  const because = skips.meter === undefined ? "" : ` [skipped: ${skips.meter}]`;
  const list = async (
    store: Store,
    prices: Record<string, string>,
    change: { currency?: string; account?: string } = {},
  ) => {
    const id = name();
    const { currency, account: of } = change;
    await store.setPrices({ list: id, currency, account: of, fromDay: undefined, prices }, T0);
    return id;
  };
  const plan = async (store: Store, of: string) => {
    const id = name();
    await store.setPlan({ id, list: of, minimum: null, cap: null, included: {} });
    return id;
  };

  describe("prices", () => {
    booked(`Store.setPrices makes a list, and changes it from days on that have not begun${because}`, async () => {
      const { store } = form();
      const id = await list(store, { vcpu_ms: "0.00002", creates: "0.1" });
      const change = { list: id, currency: "USD", account: undefined, prices: { vcpu_ms: "0.000030" } };
      const told = await store.setPrices({ ...change, fromDay: undefined }, T0);
      expect(told).toMatchObject({ id, currency: "USD", account: null });
      expect(told.prices.map(({ meter, fromDay, price }) => [meter, fromDay, price])).toEqual([
        ["creates", "1970-01-01", "0.1"],
        ["vcpu_ms", "1970-01-01", "0.00002"],
        ["vcpu_ms", "2030-01-02", "0.00003"],
      ]);
      expect((await store.priceLists()).find((one) => one.id === id)).toEqual(told);
      expect(told.prices[1]).toMatchObject({ unit: "vCPU-second", describes: "vCPUs of running sandboxes" });
    });

    booked(
      `Store.setPrices refuses what is wrong, says which and why, and then changes nothing${because}`,
      async () => {
        const { store } = form();
        const id = await list(store, { vcpu_ms: "0.00002" });
        const before = await store.priceLists();
        const set = (change: Partial<Parameters<Store["setPrices"]>[0]>) =>
          refusal(
            store.setPrices(
              {
                list: id,
                currency: undefined,
                account: undefined,
                fromDay: undefined,
                prices: { creates: "1" },
                ...change,
              },
              T0,
            ),
          );
        expect(await set({ prices: { creates: "1", gpu_ms: "1" } })).toMatch(/^invalid_request .*"gpu_ms".*vcpu_ms/);
        for (const price of ["-0.1", "", "1e-5", "NaN", "1234567890123", "0.1234567890123456789", "free"]) {
          expect(await set({ prices: { creates: price } })).toMatch(
            /^invalid_request prices\.creates: got ".*not negative/,
          );
        }
        expect(await set({ fromDay: "2030-01-01" })).toMatch(
          /^invalid_request fromDay: got "2030-01-01".*from 2030-01-02 on/,
        );
        expect(await set({ currency: "EUR" })).toMatch(/^invalid_request currency: got "EUR".*USD/);
        expect(await set({ account: await account(store) })).toMatch(/^invalid_request account: /);
        expect(await set({ list: name(), account: "nobody" })).toMatch(/^not_found .*nobody/);
        expect(await set({ fromDay: "2030-02-01", prices: { vcpu_ms: "1" } })).toBe("null");
        expect(await set({ fromDay: "2030-02-01", prices: { gpu_ms: "1", vcpu_ms: "2" } })).toMatch(
          /^invalid_request /,
        );
        const after = await store.priceLists();
        expect(after.length).toBe(before.length);
        expect(after.find((one) => one.id === id)?.prices.map(({ meter }) => meter)).toEqual(["vcpu_ms", "vcpu_ms"]);
      },
    );

    booked(
      `Store.setPrices and Store.subscribeTo put right what was set for a day that has not begun${because}`,
      async () => {
        const { store } = form();
        const mine = await account(store);
        const [id, other] = [await list(store, { vcpu_ms: "0.00002" }), await list(store, { creates: "1" })];
        const set = (prices: Record<string, string>) =>
          store.setPrices({ list: id, currency: undefined, account: undefined, fromDay: "2030-03-01", prices }, T0);
        await set({ vcpu_ms: "30", creates: "1" });
        const told = await set({ vcpu_ms: "0.00003" });
        expect(told.prices.map(({ meter, fromDay, price }) => [meter, fromDay, price])).toEqual([
          ["creates", "2030-03-01", "1"],
          ["vcpu_ms", "1970-01-01", "0.00002"],
          ["vcpu_ms", "2030-03-01", "0.00003"],
        ]);
        const [wrong, right] = [await plan(store, other), await plan(store, id)];
        await store.subscribeTo(mine, wrong, "2030-03-01", T0);
        await store.subscribeTo(mine, right, "2030-03-01", T0);
        expect((await store.pricing(mine, T0 + 365 * DAY_MS)).plan?.id).toBe(right);
      },
    );

    booked(`A day has begun when it has by the database's clock, whatever a server's says${because}`, async () => {
      const { store } = form();
      const mine = await account(store);
      const id = await list(store, { vcpu_ms: "0.00002" });
      const [lateMs, today] = [Date.now() - 3 * DAY_MS, dayAt(Date.now())];
      const prices = { list: id, currency: undefined, account: undefined, prices: { creates: "1" } };
      expect(await refusal(store.setPrices({ ...prices, fromDay: today }, lateMs))).toMatch(
        /^invalid_request fromDay: .*has not begun/,
      );
      await store.setPrices({ ...prices, fromDay: undefined }, lateMs);
      await store.record(movesOf(mine, newId(), LIFE.slice(0, 2)));
      expect(await refusal(store.subscribeTo(mine, await plan(store, id), today, lateMs))).toMatch(
        /^invalid_request fromDay: .*has not begun/,
      );
      expect(await refusal(store.subscribeTo(mine, await plan(store, id), undefined, lateMs))).toBe("null");
    });

    booked(
      `Store.setPlan makes a plan, and makes it anew until an account has it: then the same again is the same, another is refused${because}`,
      async () => {
        const { store } = form();
        const of = await list(store, { vcpu_ms: "0.00002" });
        const made = {
          id: name(),
          list: of,
          minimum: "5",
          cap: "100.5",
          included: { vcpu_ms: "3600000", creates: "10" },
        };
        expect(await store.setPlan(made)).toEqual(made);
        expect(await store.setPlan({ ...made, minimum: "5.00" })).toEqual(made);
        const soon = await account(store, { creditUsd: "1" });
        await store.subscribeTo(soon, made.id, "2030-02-01", T0);
        const mended = { ...made, minimum: null, cap: "50", included: { creates: "20" } };
        expect(await store.setPlan(mended)).toEqual(mended);
        const euro = await list(store, { creates: "1" }, { currency: "EUR" });
        const theirs = await list(store, { creates: "1" }, { account: await account(store) });
        for (const unfit of [euro, theirs]) {
          expect(await refusal(store.setPlan({ ...made, list: unfit }))).toMatch(/^invalid_request list: .* may have/);
        }
        expect(await store.setPlan(made)).toEqual(made);
        await store.subscribeTo(await account(store), made.id, dayAt(Date.now() - DAY_MS), T0);
        expect(await store.setPlan(made)).toEqual(made);
        expect(await refusal(store.setPlan({ ...made, cap: null }))).toMatch(/^already_exists there is another plan/);
        expect(await refusal(store.setPlan({ ...made, included: {} }))).toMatch(/^already_exists /);
        const set = (change: Partial<PlanInfo>) => refusal(store.setPlan({ ...made, id: name(), ...change }));
        expect(await set({ list: "no-such-list" })).toMatch(/^not_found .*no-such-list/);
        expect(await set({ included: { gpu_ms: "1" } })).toMatch(/^invalid_request .*gpu_ms/);
        expect(await set({ included: { creates: "-1" } })).toMatch(/^invalid_request included\.creates: got "-1"/);
        expect(await set({ minimum: "-1" })).toMatch(/^invalid_request minimum: got "-1"/);
        expect(await set({ minimum: "101" })).toMatch(/^invalid_request minimum: .*no more than the cap/);
      },
    );

    booked(
      `Store.subscribeTo refuses another's list, another currency than the credit's, and days that have begun${because}`,
      async () => {
        const { store } = form();
        const [mine, theirs] = [await account(store, { creditUsd: "5" }), await account(store)];
        const own = await plan(store, await list(store, { creates: "1" }, { account: theirs }));
        const euro = await plan(store, await list(store, { creates: "1" }, { currency: "EUR" }));
        const dollars = await plan(store, await list(store, { creates: "1" }));
        const subscribe = (of: string, to: string, day?: string) => refusal(store.subscribeTo(of, to, day, T0));
        expect(await subscribe(mine, own)).toMatch(/^invalid_request account: /);
        expect(await subscribe(mine, euro)).toMatch(/^invalid_request plan: .*in USD.*is in EUR/);
        expect(await subscribe("nobody", dollars)).toMatch(/^not_found .*nobody/);
        expect(await subscribe(mine, "no-such-plan")).toMatch(/^not_found .*no-such-plan/);
        await store.record(movesOf(mine, newId(), LIFE));
        expect(await subscribe(mine, dollars, "2030-01-01")).toMatch(/^invalid_request fromDay: .*from 2030-01-02 on/);
        expect(await subscribe(mine, dollars, "2030-01-02")).toBe("null");
        const begun = [await account(store), dayAt(Date.now() - DAY_MS)] as const;
        expect(await subscribe(begun[0], dollars, begun[1])).toBe("null");
        expect(await subscribe(begun[0], dollars, begun[1])).toMatch(/^already_exists .*had a plan from/);
        expect(await subscribe(theirs, euro)).toBe("null");
        expect(await refusal(store.updateAccount(theirs, { creditUsd: "1" }))).toMatch(
          /^invalid_request creditUsd: .*EUR/,
        );
        expect((await store.account(theirs))?.creditUsd).toBeNull();
      },
    );

    booked(
      `Store.pricing tells an account's own prices: those in force and those to come, with its plan${because}`,
      async () => {
        const { store } = form();
        const mine = await account(store);
        const first = await store.pricing(mine, T0);
        expect(first).toMatchObject({ list: "default", currency: "USD", plan: null });
        expect(first.prices.map(({ meter, price }) => [meter, price])).toContainEqual(["vcpu_ms", "0.00001"]);
        expect(first.notes.length).toBeGreaterThan(2);
        const id = await list(store, { vcpu_ms: "0.00002" }, { account: mine });
        const set = (fromDay: string, price: string) =>
          store.setPrices({ list: id, currency: undefined, account: mine, fromDay, prices: { vcpu_ms: price } }, T0);
        await set("2030-01-05", "0.00003");
        await set("2030-01-09", "0.00004");
        const to = await plan(store, id);
        await store.subscribeTo(mine, to, "2030-01-04", T0);
        expect((await store.pricing(mine, T0 + 2 * DAY_MS)).list).toBe("default");
        const told = await store.pricing(mine, T0 + 6 * DAY_MS);
        expect(told.plan).toEqual({ id: to, list: id, minimum: null, cap: null, included: {} });
        expect(told.prices.map(({ fromDay, price }) => [fromDay, price])).toEqual([
          ["2030-01-05", "0.00003"],
          ["2030-01-09", "0.00004"],
        ]);
        expect(await codeOf(store.pricing("nobody", T0))).toBe("not_found");
      },
    );
  });

  describe("credit", () => {
    booked(
      `Store.record takes from credit what the account's own list says, day by day, counts too${because}`,
      async () => {
        const { store } = form();
        const mine = await account(store, { creditUsd: "100" });
        const id = await list(store, { vcpu_ms: "0.001", cpu_used_ms: "1", egress_bytes: "1073741824", creates: "7" });
        await store.setPrices(
          {
            list: id,
            currency: undefined,
            account: undefined,
            fromDay: dayAt(T0 + DAY_MS),
            prices: { vcpu_ms: "0.002" },
          },
          T0,
        );
        await store.subscribeTo(mine, await plan(store, id), undefined, T0);
        const sent = { network: { bytesOut: 3, bytesIn: 9, connections: 1 }, cpuUsedMs: 5000.9 };
        const rows = movesOf(mine, newId(), [
          ["creating", DAY_MS - 11_000],
          ["running", DAY_MS - 10_000],
          ["deleted", DAY_MS + 10_000, sent],
        ]);
        await store.record(rows);
        await store.record(rows);
        // 10 s at 0.001 and 10 s at 0.002, a create, 5 s of CPU, 3 bytes.
        expect((await store.account(mine))?.creditUsd).toBe(String(100 - 0.01 - 0.02 - 7 - 5 - 3));
      },
    );

    booked(
      `Store.exhausted names those whose credit ends with what is open, if they want that hibernated${because}`,
      async () => {
        const { store } = form();
        // 60 s of LIFE's size cost 0.00072.
        const change = { creditUsd: "0.00072", onEmpty: "hibernate" } as const;
        const [mine, other] = [await account(store, change), await account(store, { ...change, onEmpty: "nothing" })];
        const [id, paused] = [newId(), newId()];
        await store.record([
          ...movesOf(mine, id, LIFE.slice(0, 2)),
          ...movesOf(mine, paused, [LIFE[0] ?? ["creating", 0], ["paused", 1]]),
          ...movesOf(other, newId(), LIFE.slice(0, 2)),
        ]);
        await store.updateAccount(mine, { creditUsd: "0.00072" });
        const named = async (ms: number) =>
          (await store.exhausted(T0 + ms)).filter(({ account: of }) => [mine, other].includes(of));
        expect(await named(30_000)).toEqual([]);
        expect(await named(60_040)).toEqual([{ account: mine, sandboxes: [id, paused].sort() }]);
        // A clock that jumps takes no more than a minute.
        await store.updateAccount(mine, { creditUsd: "0.1" });
        expect(await named(3_600_000)).toEqual([]);
        expect((await store.admit(mine, [booking({ atMs: T0 + 3_600_000 })], null)).kind).toBe("booked");
      },
    );
  });
}
