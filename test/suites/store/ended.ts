/** What is left of a sandbox: as it was last told of, closed when nobody saw its end, forgotten in time; what it keeps on disk. */
import { describe, expect, test } from "bun:test";
import type { Stored } from "../../../src/contract/stored.ts";
import { NOTHING } from "../../../src/meter/fold.ts";
import { account, booking, LIFE, movesOf, newId, type StoreForm, sandboxInfo, T0, UNLIMITED } from "./world.ts";

export function endedCases(form: () => StoreForm, skips: { readonly meter?: string }): void {
  const metered = test.skipIf(skips.meter !== undefined);
  const because = skips.meter === undefined ? "" : ` [skipped: ${skips.meter}]`;

  describe("what has ended", () => {
    test("Store.endedSandbox is the sandbox as last described, with how it ended", async () => {
      const { store } = form();
      const mine = await account(store);
      const one = booking();
      await store.admit(mine, [one], null);
      await store.describe(mine, [sandboxInfo(one.id), sandboxInfo(one.id, { notes: ["newer"] })]);
      expect(await store.endedSandbox(mine, one.id)).toBeNull();
      await store.record(movesOf(mine, one.id, LIFE));
      const { reason } = { reason: "closed" };
      const ended = sandboxInfo(one.id, { notes: ["newer"], state: "deleted", reason });
      expect(await store.endedSandbox(mine, one.id)).toEqual(ended);
      await store.describe(mine, [sandboxInfo(one.id, { metadata: {} })]);
      expect(await store.endedSandbox(mine, one.id)).toEqual({ ...ended, notes: ["a note"], metadata: {} });
      expect(await store.endedSandbox(mine, "sb_never")).toBeNull();
    });

    test("Store.describe before the first move, or without a booking, is kept too", async () => {
      const { store } = form();
      const mine = await account(store);
      const id = newId();
      await store.describe(mine, [sandboxInfo(id)]);
      await store.describe(mine, []);
      expect((await store.inUse(mine)).sandboxes).toBe(1);
      await store.record(movesOf(mine, id, LIFE));
      expect((await store.endedSandbox(mine, id))?.state).toBe("deleted");
      expect((await store.inUse(mine)).sandboxes).toBe(0);
    });

    test("Store.reconcile closes what is open and does not live, and leaves the rest", async () => {
      const { store } = form();
      const mine = await account(store);
      const [booked, ran, lives, ended] = [newId(), newId(), newId(), newId()];
      await store.admit(mine, [booking({ id: booked })], null);
      for (const id of [ran, lives]) await store.record(movesOf(mine, id, LIFE.slice(0, 2)));
      await store.record(movesOf(mine, ended, LIFE));
      await store.describe(
        mine,
        [ran, lives, ended].map((id) => sandboxInfo(id)),
      );
      expect(await store.reconcile(new Set([lives]), new Map(), T0 + 10_040)).toBeGreaterThanOrEqual(2);
      expect((await store.inUse(mine)).sandboxes).toBe(1);
      expect(await store.endedSandbox(mine, ran)).toMatchObject({ state: "failed", reason: "its end was not seen" });
      expect(await store.endedSandbox(mine, lives)).toBeNull();
      expect((await store.endedSandbox(mine, ended))?.reason).toBe("closed");
      expect(await store.reconcile(new Set([lives]), new Map(), T0 + 10_040)).toBe(0);
      expect(await store.reconcile(new Set(), new Map(), T0 + 10_040)).toBe(1);
    });

    metered(`Store.reconcile charges up to the last proof of life, never to when it is called${because}`, async () => {
      const { store, meter } = form();
      const mine = await account(store);
      const [silent, beaten] = [newId(), newId()];
      for (const id of [silent, beaten]) await store.record(movesOf(mine, id, LIFE.slice(0, 2)));
      const charged = { vcpu_ms: 1, memory_mib_ms: 512 };
      expect((await meter?.(silent))?.open).toEqual({ sinceMs: BigInt(T0 + 40), charged });
      await store.heartbeat([
        { sandbox: beaten, seenMs: T0 + 10_040.9, cpuUsedMs: 17.5, egressBytes: 9 },
        { sandbox: "sb_never", seenMs: T0 + 1, cpuUsedMs: null, egressBytes: null },
      ]);
      await store.heartbeat([{ sandbox: beaten, seenMs: T0 + 9000, cpuUsedMs: 3, egressBytes: null }]);
      await store.heartbeat([]);
      await store.reconcile(new Set(), new Map(), T0 + 99_040);
      const used = { ...NOTHING, creates: 1n };
      expect(await meter?.(silent)).toEqual({ closed: used, open: null });
      const closed = { vcpu_ms: 10_000n, memory_mib_ms: 5_120_000n, egress_bytes: 9n, cpu_used_ms: 17n };
      expect(await meter?.(beaten)).toEqual({ closed: { ...used, ...closed }, open: null });
      await store.heartbeat([{ sandbox: beaten, seenMs: T0 + 90_000, cpuUsedMs: 90, egressBytes: 90 }]);
      expect(await meter?.(beaten)).toEqual({ closed: { ...used, ...closed }, open: null });
    });

    metered(
      `Store.reconcile charges up to the end that the host knows, before or after it was seen${because}`,
      async () => {
        const { store, meter } = form();
        const mine = await account(store);
        const id = newId();
        await store.record(movesOf(mine, id, LIFE.slice(0, 2)));
        await store.heartbeat([{ sandbox: id, seenMs: T0 + 5040, cpuUsedMs: null, egressBytes: null }]);
        const ended = new Map([[id, { endMs: T0 + 7040.5, why: "its VMM was killed" }]]);
        await store.reconcile(new Set(), ended, T0 + 99_040);
        expect((await meter?.(id))?.closed.vcpu_ms).toBe(7000n);
        expect((await store.events(mine, id, 1))?.[0]).toMatchObject({ to: "failed", reason: "its VMM was killed" });
        await store.record(movesOf(mine, id, LIFE));
        expect((await meter?.(id))?.closed.vcpu_ms).toBe(7000n);
      },
    );

    metered(`Store.reconcile charges what was seen, whatever a wall clock said of the lifetime${because}`, async () => {
      const { store, meter } = form();
      const mine = await account(store);
      const id = newId();
      await store.record(movesOf(mine, id, LIFE.slice(0, 2)));
      // Told by a clock that had been set back by an hour, when its lifetime was changed.
      const expiresAt = new Date(T0 - 3_600_000 + 90_040).toISOString();
      await store.describe(mine, [sandboxInfo(id, { expiresAt })]);
      await store.heartbeat([{ sandbox: id, seenMs: T0 + 60_040, cpuUsedMs: null, egressBytes: null }]);
      await store.reconcile(new Set(), new Map(), T0 + 61_000);
      expect((await meter?.(id))?.closed.vcpu_ms).toBe(60_000n);
    });

    test("Store.provenMs is of the last move, or of the proof of life after it, whatever the wall clock says", async () => {
      const { store } = form();
      const mine = await account(store);
      const id = newId();
      expect(await store.provenMs(mine, id)).toBeNull();
      const moves = movesOf(mine, id, LIFE.slice(0, 2)).map((move) => ({ ...move, wallMs: move.wallMs + 3_600_000 }));
      await store.record(moves);
      expect(await store.provenMs(mine, id)).toBe(T0 + 40);
      await store.heartbeat([{ sandbox: id, seenMs: T0 + 5040, cpuUsedMs: null, egressBytes: null }]);
      expect(await store.provenMs(mine, id)).toBe(T0 + 5040);
      expect(await store.provenMs(await account(store), id)).toBeNull();
    });

    test("Store.reconcile lets the key of what never ran make another, and keeps that of what ran", async () => {
      const { store } = form();
      const mine = await account(store);
      const [bare, began, ran, lives] = [booking(), booking(), booking(), booking()];
      const key = (one: { readonly id: string }) => ({ key: `of ${one.id}`, requestHash: "h" });
      for (const one of [bare, began, ran, lives]) await store.admit(mine, [one], key(one));
      await store.record([...movesOf(mine, began.id, LIFE.slice(0, 1)), ...movesOf(mine, ran.id, LIFE.slice(0, 2))]);
      await store.reconcile(new Set([lives.id]), new Map(), T0 + 10_040);
      const again = async (one: { readonly id: string }) => await store.admit(mine, [booking()], key(one));
      expect(await again(bare)).toEqual({ kind: "booked" });
      expect(await again(began)).toEqual({ kind: "booked" });
      expect(await again(ran)).toEqual({ kind: "replayed", sandbox: ran.id });
      expect(await again(lives)).toEqual({ kind: "replayed", sandbox: lives.id });
    });

    test("Store.forget forgets what ended before, and what was asked and done before", async () => {
      const { store } = form();
      const mine = await account(store);
      const [old, late, open] = [newId(), newId(), newId()];
      const key = { key: "k", requestHash: "h" };
      await store.admit(mine, [booking({ id: old })], key);
      await store.record([...movesOf(mine, old, LIFE), ...movesOf(mine, open, LIFE.slice(0, 2))]);
      await store.record(movesOf(mine, late, LIFE).map((move) => ({ ...move, wallMs: move.wallMs + 1e6 })));
      const entry = {
        at: new Date(T0).toISOString(),
        account: mine,
        actor: "a",
        action: "x",
        target: null,
        status: 200,
      };
      await store.audit([
        { ...entry, requestId: "old" },
        { ...entry, at: new Date(T0 + 1e6).toISOString(), requestId: "late" },
      ]);
      expect(await store.forget(T0 + 1e6)).toBeGreaterThanOrEqual(1 + 4 + 1);
      expect(await store.events(mine, old, 10)).toBeNull();
      expect((await store.events(mine, late, 10))?.length).toBe(4);
      expect((await store.events(mine, open, 10))?.length).toBe(2);
      expect((await store.auditLog(mine, { limit: 10, before: null })).map(({ requestId }) => requestId)).toEqual([
        "late",
      ]);
      expect(await store.forget(T0 + 1e6)).toBe(0);
      expect((await store.admit(mine, [booking()], key)).kind).toBe("booked");
    });

    metered(`Store.forget keeps what was used, and counts nothing again that comes once more${because}`, async () => {
      const { store, meter } = form();
      const mine = await account(store, { creditUsd: "1" });
      const id = newId();
      const rows = movesOf(mine, id, LIFE);
      await store.record(rows);
      const [credit, used] = [(await store.account(mine))?.creditUsd, await meter?.(id)];
      expect(used?.closed.vcpu_ms).toBe(60_000n);
      await store.forget(T0 + 1e6);
      await store.record(rows);
      expect(await meter?.(id)).toEqual(used ?? null);
      expect((await store.account(mine))?.creditUsd).toBe(credit ?? null);
      expect(await store.events(mine, id, 10)).toBeNull();
    });
  });

  describe("recordStored", () => {
    const MIB = 1024 * 1024;
    const row = (mine: string, change: Partial<Stored>): Stored => ({
      ...{ kind: "volume", id: "v", account: mine, sizeBytes: 0, monotonicMs: T0, wallMs: T0 },
      ...change,
    });

    test("Store.recordStored counts the last size of each thing, in whole MiB, once", async () => {
      const { store } = form();
      const mine = await account(store, { quota: { ...UNLIMITED, storageMb: 1 } });
      const rows = [
        row(mine, { sizeBytes: 10 * MIB, wallMs: T0 + 1, monotonicMs: T0 + 1 }),
        row(mine, { sizeBytes: 20 * MIB, wallMs: T0 + 2, monotonicMs: T0 + 2 }),
        row(mine, { kind: "snapshot", id: "v", sizeBytes: MIB + 1, wallMs: T0 + 3, monotonicMs: T0 + 3 }),
        row(mine, { kind: "image", id: "sb", sizeBytes: 5 * MIB, wallMs: T0 + 3, monotonicMs: T0 + 3 }),
        row(mine, { kind: "image", id: "sb", sizeBytes: 0, wallMs: T0 + 4, monotonicMs: T0 + 4 }),
      ];
      await store.recordStored(rows);
      expect((await store.inUse(mine)).storageMib).toBe(22);
      await store.recordStored(rows);
      await store.recordStored([]);
      expect((await store.inUse(mine)).storageMib).toBe(22);
      await store.recordStored([row("nobody-knows", { sizeBytes: 1 })]);
    });
  });
}
