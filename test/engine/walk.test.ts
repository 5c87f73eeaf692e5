/** Random walks over calls, faults and time, from a seed: whatever happens, the books balance at the end. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Move } from "../../src/contract/move.ts";
import type { SandboxHost } from "../../src/contract/routes.ts";
import type { GuestFault } from "../../src/driver/fake.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { judge, type SandboxEvent } from "../../src/engine/state.ts";
import { isWarrenError, WarrenError } from "../../src/errors.ts";
import { LIMITS } from "../../src/limits.ts";
import { FakeClock, settle } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";

const STEPS = 60;
/** What an engine may answer to honest calls in a hostile world; anything else is a defect. */
const EXPECTED = new Set([
  ...["cancelled", "create_timeout", "capacity_exhausted", "queue_full", "driver_failed", "storage_exhausted"],
  ...[
    "guest_unresponsive",
    "guest_protocol",
    "sandbox_lost",
    "wrong_state",
    "not_found",
    "internal",
    "invalid_request",
  ],
]);

/** A small generator of its own, so that a run is its seed. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

class Walk {
  readonly clock = new FakeClock();
  readonly world = new World(this.clock);
  readonly engine: Engine;
  readonly host: SandboxHost;
  readonly pick: (below: number) => number;
  readonly pending = new Set<Promise<unknown>>();
  readonly aborts: AbortController[] = [];
  readonly ids: string[] = [];
  readonly surprises: unknown[] = [];

  constructor(seed: number) {
    this.pick = randomFrom(seed);
    this.engine = this.world.engine({
      prepared: this.pick(3),
      ready: this.pick(3),
      preparedIdleMs: 2000,
      queue: 5 + this.pick(20),
      createWaitMs: 30_000,
    });
    this.host = this.engine.as("local");
    this.world.templates.warm = this.pick(2) === 0;
    this.world.templates.workingSetMib = 50 + this.pick(400);
    this.world.driver.hooks = {
      vmm: () => {
        if (this.pick(25) === 0) throw new WarrenError("driver_failed", "fault");
        if (this.pick(10) === 0) return this.clock.sleep(this.pick(500));
      },
      guest: () => this.#guestFault(),
    };
    this.world.host.hooks = {
      lease: () => {
        if (this.pick(25) === 0) throw new WarrenError("storage_exhausted", "fault");
      },
    };
    const put = this.world.registry.put.bind(this.world.registry);
    this.world.registry.put = (record) =>
      this.pick(40) === 0 ? Promise.reject(new WarrenError("storage_exhausted", "fault")) : put(record);
  }

  #guestFault(): GuestFault | Promise<GuestFault> {
    if (this.pick(8) === 0) return this.clock.sleep(this.pick(300)).then(() => "answer" as const);
    const faults: GuestFault[] = ["silence", "garbage", "exit", "refuse"];
    return this.pick(30) === 0 ? (faults[this.pick(4)] as GuestFault) : "answer";
  }

  /** Goes on without waiting; failures are looked at, not thrown. */
  start(call: Promise<unknown>): void {
    const done = call
      .catch((cause: unknown) => {
        if (!isWarrenError(cause) || !EXPECTED.has(cause.code)) this.surprises.push(cause);
      })
      .finally(() => this.pending.delete(done));
    this.pending.add(done);
  }

  async step(): Promise<void> {
    const id = this.ids[this.pick(this.ids.length || 1)] ?? "sb_none";
    const machine = [...this.world.driver.machines.values()][this.pick(this.world.driver.machines.size || 1)];
    const actions: (() => unknown)[] = [
      () => this.#create(),
      () => this.#create(),
      () => this.#create(),
      () => this.start(this.host.close({ id })),
      () => this.start(this.#run(id)),
      () => this.aborts[this.pick(this.aborts.length || 1)]?.abort(),
      () => machine?.die({ reason: this.pick(2) === 0 ? "vmm_exit" : "killed", signal: 9 }),
      () => machine?.hangUp(),
      () => machine?.speak(new Uint8Array(40).fill(this.pick(256))),
      () => {
        this.world.host.room = { memoryPressure: this.pick(40), memoryAvailableMib: 1000 + this.pick(4000) };
      },
      () => this.clock.advance(this.pick(3000)),
      () => this.clock.advance(this.pick(50)),
    ];
    await actions[this.pick(actions.length)]?.();
    await settle();
    this.check();
  }

  #create(): void {
    const abort = new AbortController();
    this.aborts.push(abort);
    const size = { cpu: [1, 1, 2, 8][this.pick(4)] as number };
    const ttl = this.pick(3) === 0 ? { ttlSeconds: 0.1 + this.pick(20) / 10 } : {};
    const made = this.host.create({ ...size, ...ttl, detached: this.pick(5) === 0 }, { signal: abort.signal });
    this.start(made.then(({ id }) => this.ids.push(id)));
  }

  async #run(id: string): Promise<void> {
    const cmd = ["echo x", "sleep 1", "sleep 100", "head -c 100000 /dev/zero"][this.pick(4)] as string;
    for await (const event of await this.host.exec({ id, cmd, timeoutSeconds: 5 })) {
      if (event.kind === "stdout" && this.pick(4) === 0) break;
    }
  }

  /** Holds at every step. */
  check(): void {
    const open = this.#histories().filter((rows) => !["deleted", "failed"].includes(rows.at(-1)?.to ?? ""));
    const { pooled } = this.engine.load();
    // One more may be on its way into the pool, and one that was dropped on its way out.
    expect(this.world.driver.machines.size).toBeLessThanOrEqual(open.length + pooled + 2);
    expect(this.world.errors).toEqual([]);
    for (const { sandbox, to } of this.engine.moves.all()) {
      if (to === "deleted")
        expect([this.world.driver.machines.has(sandbox), this.world.host.lent.has(sandbox)]).toEqual([false, false]);
    }
    const vcpus = open.reduce((sum, rows) => sum + (rows[0]?.cpu ?? 0), 0);
    expect(vcpus).toBeLessThanOrEqual(2 * LIMITS.vcpusPerCore);
  }

  #histories(): (readonly Move[])[] {
    const byId = new Map<string, readonly Move[]>();
    for (const { sandbox } of this.engine.moves.all()) byId.set(sandbox, this.engine.moves.of(sandbox));
    return [...byId.values()];
  }

  async finish(): Promise<void> {
    const closing = this.engine.close();
    let closed = false;
    void closing.then(() => {
      closed = true;
    });
    for (let i = 0; i < 200 && !closed; i++) await this.clock.advance(10_000);
    expect(closed).toBe(true);
    // What was detached goes on without this engine, and is ended by another process of the home.
    const other = this.world.engine();
    for (const { id } of await other.as("local").list({})) await other.as("local").close({ id });
    await other.close();
    await this.clock.advance(100_000);
    await Promise.all(this.pending);
    expect(this.surprises).toEqual([]);
    for (const rows of this.#histories()) checkHistory(rows);
    expect(this.clock.waiting).toBe(0);
    this.world.expectNothingLeft();
  }
}

/** The rows are a path of the table, gapless, forward in time; charged time begins and ends at most once. */
function checkHistory(rows: readonly Move[]): void {
  expect(rows.map((row) => row.sequence)).toEqual(rows.map((_, i) => i + 1));
  for (const [i, row] of rows.entries()) {
    const before = rows[i - 1];
    if (before === undefined) expect([row.from, row.to, row.event]).toEqual([null, "creating", "created"]);
    else expect(judge(before.to, row.event as SandboxEvent)).toEqual({ kind: "move", to: row.to });
    expect(row.monotonicMs).toBeGreaterThanOrEqual(before?.monotonicMs ?? 0);
  }
  const opened = rows.filter((row) => row.to === "running").length;
  const shut = rows.filter((row) => row.from === "running").length;
  expect(opened).toBeLessThanOrEqual(1);
  expect(shut).toBe(opened);
  expect(["deleted", "failed"]).toContain(rows.at(-1)?.to as string);
}

test("Engine keeps its books over random walks of calls, faults and time", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 2 ** 31 - 1 }), async (seed) => {
      const walk = new Walk(seed);
      for (let i = 0; i < STEPS; i++) await walk.step();
      await walk.finish();
    }),
    { seed: 20_300_101, numRuns: 60 },
  );
}, 60_000);
