/** What is billed is what ran: over any life of a sandbox, any number of killed servers, and a wall clock that goes as it likes. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { WarrenError } from "../../src/errors.ts";
import { LIMITS } from "../../src/limits.ts";
import { BEAT_MS } from "../../src/server/time/heartbeat.ts";
import { ACCOUNT, TruthWorld } from "./truth-world.ts";

const HOUR_MS = 3_600_000;
/** To which the kernel rounds down. */
const TICK_MS = 10;

type Step =
  | { readonly does: "wait" | "jump"; readonly ms: number }
  | { readonly does: "pause" | "resume" | "hibernate" | "wake" | "die" | "close" | "kill" | "start" | "away" | "back" };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ does: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 12_000 }) }) },
  {
    weight: 3,
    // An hour either way, a leap second, and what a suspended host finds when it goes on.
    arbitrary: fc
      .constantFrom(-HOUR_MS, HOUR_MS, -1000, 1000, 8 * HOUR_MS)
      .map((ms) => ({ does: "jump" as const, ms })),
  },
  {
    weight: 6,
    arbitrary: fc
      .constantFrom(
        ...([
          "pause",
          "resume",
          "hibernate",
          "wake",
          "kill",
          "start",
          "start",
          "die",
          "close",
          "away",
          "back",
        ] as const),
      )
      .map((does) => ({ does })),
  },
);

/** What the machine did, by its own clock. */
class Truth {
  ranMs = 0;
  #sinceMs: number | null = null;

  runs(nowMs: number): void {
    this.#sinceMs ??= nowMs;
  }

  stands(nowMs: number): void {
    if (this.#sinceMs !== null) this.ranMs += nowMs - this.#sinceMs;
    this.#sinceMs = null;
  }
}

/** What became of one sandbox: milliseconds that it ran, and for which it is charged. */
async function live(steps: readonly Step[], accounts: boolean): Promise<{ ranMs: number; billedMs: number }> {
  const world = new TruthWorld({ accounts });
  const { clock } = world;
  const truth = new Truth();
  await world.start();
  const { id } = await world.host.create({ detached: true });
  let state: "running" | "paused" | "hibernated" | "over" = "running";
  truth.runs(clock.monotonicMs());
  const now = () => clock.monotonicMs();
  const doing: Record<Exclude<Step["does"], "wait" | "jump">, () => void | Promise<void>> = {
    pause: async () => {
      if (!world.isServed || state !== "running") return;
      await world.host.pause({ id });
      [state] = ["paused"];
      truth.stands(now());
    },
    resume: async () => {
      if (!world.isServed || state !== "paused") return;
      await world.host.resume({ id });
      [state] = ["running"];
      truth.runs(now());
    },
    hibernate: async () => {
      if (!world.isServed || (state !== "paused" && state !== "running")) return;
      await world.host.hibernate({ id });
      [state] = ["hibernated"];
      truth.stands(now());
    },
    wake: async () => {
      if (!world.isServed || state !== "hibernated") return;
      await world.host.wake({ id });
      [state] = ["running"];
      truth.runs(now());
    },
    close: async () => {
      if (!world.isServed || state === "over") return;
      truth.stands(now());
      [state] = ["over"];
      await world.host.close({ id });
    },
    die: () => {
      if (state !== "running" && state !== "paused") return;
      truth.stands(now());
      [state] = ["over"];
      const end = accounts ? { atMs: Math.floor(now() / TICK_MS) * TICK_MS, cpuMs: 0 } : null;
      world.machine(id)?.die({ reason: "vmm_exit", end });
    },
    kill: () => world.kill(),
    // A server does not start without its database.
    start: async () => {
      if (!world.isServed && world.books.away === null) await world.start();
    },
    away: () => {
      world.books.away = new WarrenError("store_unavailable", "the database is away");
    },
    back: () => {
      world.books.away = null;
    },
  };
  for (const one of steps) {
    if (one.does === "wait") await clock.advance(one.ms);
    else if (one.does === "jump") clock.jumpWall(one.ms);
    else await doing[one.does]();
    await clock.advance(0);
  }
  await doing.back();
  await doing.start();
  await doing.close();
  await clock.advance(3 * LIMITS.inheritedLookMs); // all is looked at, told and written
  expect((await world.books.inUse(ACCOUNT)).sandboxes).toBe(0);
  return { ranMs: truth.ranMs, billedMs: world.billedMs(id) };
}

test("What is billed is what ran, to the kernel's tick, whatever was killed and wherever the wall clock jumped", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 24, size: "max" }), async (steps) => {
      const { ranMs, billedMs } = await live(steps, true);
      expect(billedMs).toBeLessThanOrEqual(ranMs + 0.001);
      expect(billedMs).toBeGreaterThanOrEqual(ranMs - TICK_MS - 0.001);
    }),
    { numRuns: 400 },
  );
}, 120_000);

test("What is billed without the kernel's word is never more than what ran, and a heartbeat less at most", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 24, size: "max" }), async (steps) => {
      const { ranMs, billedMs } = await live(steps, false);
      expect(billedMs).toBeLessThanOrEqual(ranMs + 0.001);
      if (!steps.some(({ does }) => does === "kill"))
        expect(billedMs).toBeGreaterThanOrEqual(ranMs - LIMITS.heartbeatMs);
    }),
    { numRuns: 400 },
  );
}, 120_000);

test("A machine that ended a while ago is told of as of then, also when its server lives", async () => {
  for (const inherited of [false, true]) {
    const world = new TruthWorld({ accounts: true });
    await world.start();
    const { id } = await world.host.create({ detached: true });
    await world.clock.advance(LIMITS.heartbeatMs - 1);
    if (inherited) {
      world.kill();
      await world.start();
    }
    const ranMs = world.clock.monotonicMs() - 700;
    world.machine(id)?.die({ end: { atMs: ranMs, cpuMs: 0 } });
    await world.clock.advance(3 * LIMITS.inheritedLookMs);
    const ends = [...world.books.moves.values()].filter(({ to }) => to === (inherited ? "stopping" : "failed"));
    const began = [...world.books.moves.values()].find(({ to }) => to === "running");
    expect(ends).toHaveLength(1);
    const lastMs = inherited ? ranMs + 700 : ranMs; // the fake kernel of one that is found writes down when it was told
    expect((ends[0]?.monotonicMs ?? 0) - (began?.monotonicMs ?? 0)).toBeLessThanOrEqual(lastMs - 1000);
    expect((ends[0]?.monotonicMs ?? 0) - (began?.monotonicMs ?? 0)).toBeGreaterThan(lastMs - 1000 - 2 * TICK_MS);
  }
});

test("A lifetime that ran out bounds what is billed, though its timer was late", async () => {
  const world = new TruthWorld({ accounts: true });
  await world.start();
  const { id } = await world.host.create({ detached: true, ttlSeconds: 3 });
  const began = world.clock.monotonicMs();
  await world.clock.advance(2500);
  const [move] = [...world.books.moves.values()].filter(({ to }) => to === "running");
  world.machine(id)?.die({ reason: "deadline", end: { atMs: began + 3040, cpuMs: 0 } });
  await world.clock.advance(1000);
  const end = [...world.books.moves.values()].find(({ to }) => to === "stopping");
  expect((end?.monotonicMs ?? 0) - (move?.monotonicMs ?? 0)).toBeCloseTo(3000, 3);
});

test("A close counts from when it was asked for, and no proof of life is of later", async () => {
  const world = new TruthWorld({ accounts: true });
  await world.start();
  const { id } = await world.host.create({ detached: true });
  const began = world.clock.monotonicMs();
  await world.clock.advance(BEAT_MS - 500);
  world.world.host.hooks = { give: () => world.clock.sleep(4 * LIMITS.heartbeatMs) };
  const closing = world.host.close({ id });
  await world.clock.advance(6 * LIMITS.heartbeatMs);
  await closing;
  expect(world.billedMs(id)).toBeCloseTo(BEAT_MS - 500, 3);
  expect(world.books.calls.get("heartbeat") ?? 0).toBe(0);
  expect(world.clock.monotonicMs() - began).toBeGreaterThan(LIMITS.heartbeatMs);
});

test("One that is inherited keeps its axis of time through what is done to it, server after server", async () => {
  const world = new TruthWorld({ accounts: true });
  const again = async () => {
    world.kill();
    world.clock.jumpWall(HOUR_MS);
    await world.start();
  };
  await world.start();
  const { id } = await world.host.create({ detached: true });
  for (const act of ["pause", "resume", "hibernate", "wake", "pause", "resume"] as const) {
    await world.clock.advance(1000);
    await again();
    await world.host[act]({ id });
  }
  await world.clock.advance(1000);
  await again();
  await world.host.close({ id });
  await world.clock.advance(1000);
  expect(world.billedMs(id)).toBeCloseTo(4000, 3);
});

test("Whose end is asked for has no proof of life after that, and has one again when it goes on", async () => {
  const world = new TruthWorld({ accounts: true });
  await world.start();
  const { id } = await world.host.create({ detached: true });
  const flush = Promise.withResolvers<void>();
  world.world.snapshots.saving = () => flush.promise;
  const sleeping = world.host.hibernate({ id }).catch(() => "failed");
  await world.clock.advance(2 * LIMITS.heartbeatMs);
  expect(world.books.calls.get("heartbeat") ?? 0).toBe(0);
  flush.reject(new WarrenError("storage_exhausted", "full"));
  expect(await sleeping).toBe("failed");
  await world.clock.advance(2 * LIMITS.heartbeatMs);
  expect(world.books.calls.get("heartbeat")).toBeGreaterThan(0);
});

test("One that is put to sleep counts until that was asked for, though its machine ends before its image is written", async () => {
  const world = new TruthWorld({ accounts: true });
  await world.start();
  const { id } = await world.host.create({ detached: true });
  await world.clock.advance(1000);
  const written = Promise.withResolvers<void>();
  world.world.snapshots.saving = () => written.promise;
  const sleeping = world.host.hibernate({ id });
  await world.clock.advance(700);
  written.resolve();
  await sleeping;
  await world.clock.advance(1000);
  expect(world.billedMs(id)).toBeCloseTo(1000, 0);
});

test("A close that comes after its machine's end, which nobody has noticed yet, ends nothing later than that", async () => {
  const world = new TruthWorld({ accounts: true });
  await world.start();
  const { id } = await world.host.create({ detached: true });
  await world.clock.advance(1000);
  const endMs = world.clock.monotonicMs();
  world.world.host.over.add(id);
  await world.clock.advance(30);
  const closing = world.host.close({ id });
  await world.clock.advance(10);
  world.machine(id)?.die({ end: { atMs: endMs, cpuMs: 0 } });
  await world.clock.advance(1000);
  await closing;
  expect(world.billedMs(id)).toBeCloseTo(1000, 0);
});

test("One that is found dead by a server before that saw it live counts to what earlier ones knew, not to nothing", async () => {
  for (const accounts of [true, false]) {
    const world = new TruthWorld({ accounts });
    await world.start();
    const { id } = await world.host.create({ detached: true });
    await world.clock.advance(HOUR_MS);
    world.kill();
    await world.start();
    await world.clock.advance(1000);
    world.machine(id)?.die({ end: null });
    await world.clock.advance(20_000);
    expect(world.billedMs(id)).toBeLessThanOrEqual(HOUR_MS + 1000);
    expect(world.billedMs(id)).toBeGreaterThanOrEqual(HOUR_MS - LIMITS.heartbeatMs);
  }
});

test("What ended by itself, noticed late and without the kernel's word, counts to its last proof of life", async () => {
  for (const does of ["exit", "expire", "close", "lost"] as const) {
    const world = new TruthWorld({ accounts: false });
    await world.start();
    const { id } = await world.host.create({ detached: true, ...(does === "expire" && { ttlSeconds: 9 }) });
    await world.clock.advance(LIMITS.heartbeatMs + 1000);
    const machine = world.machine(id);
    world.world.host.over.add(id);
    machine?.setDeadline(null);
    await world.clock.advance(1500);
    if (does === "close") void world.host.close({ id });
    if (does === "lost") machine?.guest.stop();
    if (does !== "exit") await world.clock.advance(LIMITS.lostGraceMs + 2000);
    machine?.die({ end: null });
    await world.clock.advance(1000);
    expect([does, (await world.books.inUse(ACCOUNT)).sandboxes]).toEqual([does, 0]);
    expect([does, world.billedMs(id)]).toEqual([does, BEAT_MS]);
  }
});

test("One that is inherited and closed after its end, of which the kernel has no word, counts to its last proof of life", async () => {
  const world = new TruthWorld({ accounts: false });
  await world.start();
  const { id } = await world.host.create({ detached: true });
  await world.clock.advance(1000);
  world.kill();
  await world.start();
  await world.clock.advance(LIMITS.heartbeatMs + 100);
  const provenMs = BEAT_MS + 1000;
  world.machine(id)?.die({ end: null });
  await world.clock.advance(400);
  await world.host.close({ id }).catch(() => undefined); // it may be found to have ended
  await world.clock.advance(3 * LIMITS.inheritedLookMs);
  expect(world.billedMs(id)).toBe(provenMs);
});

test("What is inherited is proven to live at once, and less than a tick apart from then on", async () => {
  const world = new TruthWorld({ accounts: false });
  await world.start();
  const { id } = await world.host.create({ detached: true });
  for (const servedMs of [LIMITS.heartbeatMs - 500, LIMITS.heartbeatMs - 500]) {
    await world.clock.advance(servedMs);
    world.kill();
    await world.clock.advance(LIMITS.heartbeatMs);
    await world.start();
    await world.clock.advance(2 * LIMITS.writeBehindCalmMs);
  }
  world.kill();
  world.machine(id)?.die({ end: null });
  await world.clock.advance(1000);
  await world.start();
  await world.clock.advance(3 * LIMITS.inheritedLookMs);
  expect(world.billedMs(id)).toBeGreaterThanOrEqual(4 * LIMITS.heartbeatMs - 2 * 500);
});
