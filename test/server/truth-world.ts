/**
 * Servers over one fake machine, one after another, each killed where it stands: what it had told its database, what it had in
 * its journal, and what the kernel wrote down are all that is left of it. Beside it the truth, kept by the machines.
 */
import { newAccount } from "../../src/api/access/tokens.ts";
import { createLog } from "../../src/base/log.ts";
import type { Move } from "../../src/contract/move.ts";
import type { SandboxInfo } from "../../src/contract/routes/sandboxes.ts";
import type { SandboxHost } from "../../src/contract/routes.ts";
import type { FakeVmm } from "../../src/driver/fake.ts";
import type { SandboxRecord } from "../../src/engine/registry.ts";
import { axisNow } from "../../src/engine/snapshots.ts";
import { isWarrenError } from "../../src/errors.ts";
import type { EndedRun } from "../../src/host/home/ends.ts";
import type { ServedAxis } from "../../src/host/home/served-axis.ts";
import { hostsOf } from "../../src/server/hosts.ts";
import { inheritAll } from "../../src/server/inherit.ts";
import { ServerMoves } from "../../src/server/moves.ts";
import type { HostFacts } from "../../src/server/time/facts.ts";
import { keepBeating } from "../../src/server/time/heartbeat.ts";
import type { Journal } from "../../src/server/time/journal.ts";
import { WriteBehind } from "../../src/server/write-behind.ts";
import { FakeClock, settle } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";
import { MemoryStore } from "../harness/stores/memory-store.ts";

export const ACCOUNT = "acme";

/** Keeps every move that it is told, each once. */
class Books extends MemoryStore {
  readonly moves = new Map<string, Move>();
  /** When the server before each start was last known to have lived. */
  readonly served: (number | null)[] = [];

  override async reconcile(...given: Parameters<MemoryStore["reconcile"]>): Promise<number> {
    this.served.push(given[3] ?? null);
    return await super.reconcile(...given);
  }

  override async record(moves: readonly Move[]): Promise<void> {
    await super.record(moves);
    for (const move of moves) this.moves.set(`${move.sandbox} ${move.sequence}`, move);
  }
}

export interface TruthOptions {
  /** Whether the kernel writes down when machines end. */
  readonly accounts: boolean;
}

export class TruthWorld {
  readonly clock = new FakeClock();
  readonly world = new World(this.clock);
  readonly books = new Books();
  /** Of what is stored, opened by each server. */
  axis: (() => ServedAxis) | null = null;
  readonly #options: TruthOptions;
  /** What a home keeps of sandboxes: their last record, and how their last machine ended. */
  readonly #records = new Map<string, SandboxRecord>();
  readonly #died = new Map<FakeVmm, number>();
  readonly #machines = new Map<string, FakeVmm>();
  readonly #forgotten = new Set<FakeVmm>();
  readonly #lines: Move[] = [];
  #server: { host: SandboxHost; kill: () => void; engineEnds: AbortController } | null = null;

  constructor(options: TruthOptions) {
    this.#options = options;
    const { registry, driver } = this.world;
    const put = registry.put.bind(registry);
    registry.put = async (record) => {
      await put(record);
      this.#records.set(record.id, record);
      const machine = driver.machines.get(record.id);
      if (machine === undefined || this.#machines.get(record.id) === machine) return;
      this.#machines.set(record.id, machine);
      void machine.exited.then(() => this.#died.set(machine, this.clock.monotonicMs()));
    };
  }

  get host(): SandboxHost {
    if (this.#server === null) throw new Error("no server is there");
    return this.#server.host;
  }

  get isServed(): boolean {
    return this.#server !== null;
  }

  machine(id: string): FakeVmm | undefined {
    return this.world.driver.machines.get(id);
  }

  /** A process begins: reads what the last one left. */
  async start(): Promise<void> {
    const { clock, books } = this;
    if ((await books.accounts()).length === 0) {
      await books.createAccount(newAccount({ id: ACCOUNT, name: ACCOUNT }, {}, 0));
    }
    const engine = this.world.engine();
    const over = new AbortController();
    const isOver = () => over.signal.aborted;
    const log = createLog("error", (line) => this.world.errors.push(line));
    const facts = this.#facts();
    const infoOf = async (account: string, id: string): Promise<SandboxInfo | null> => {
      try {
        return await engine.as(account).get({ id });
      } catch (cause) {
        if (isWarrenError(cause, "not_found")) return null;
        throw cause;
      }
    };
    const behind = new WriteBehind({ books: deaf(books, isOver), infoOf, journal: this.#journal(isOver), clock, log });
    const moves = new ServerMoves({ moves: engine.moves, storage: engine.storage, infoOf, facts, clock, log });
    moves.subscribe((move) => behind.moved(move));
    await behind.replay();
    await inheritAll({ store: books, as: (account) => engine.as(account), moves, facts, clock, log });
    void keepBeating({ moves, facts, write: (beats) => behind.beaten(beats), clock, log }, over.signal);
    const hostFor = hostsOf((account) => engine.as(account), {
      asked: (id) => moves.asked(id),
      looked: (id) => moves.look(id),
      touched: (_, id) => facts.changed(id),
    });
    this.#server = {
      host: hostFor(ACCOUNT),
      engineEnds: over,
      kill: () => {
        over.abort();
        moves[Symbol.dispose]();
      },
    };
    await settle();
  }

  /** SIGKILL: nothing more of it reaches anything. */
  kill(): void {
    this.#server?.kill();
    this.#server = null;
  }

  /** Time in `running`, milliseconds, as the database has it. */
  billedMs(id: string): number {
    const rows = [...this.books.moves.values()].filter(({ sandbox }) => sandbox === id);
    rows.sort((a, b) => a.sequence - b.sequence);
    let sum = 0;
    for (const [i, { to, monotonicMs }] of rows.entries()) {
      const untilMs = rows[i + 1]?.monotonicMs ?? this.books.ranToMs(id) ?? monotonicMs;
      if (to === "running") sum += untilMs - monotonicMs;
    }
    return sum;
  }

  #facts(): HostFacts {
    const { clock } = this;
    const { registry, snapshots } = this.world;
    const endOf = (id: string): EndedRun | null => {
      const [record, machine] = [this.#records.get(id), this.#machines.get(id)];
      const diedMs = machine === undefined ? undefined : this.#died.get(machine);
      if (record?.time === undefined || machine === undefined || diedMs === undefined) return null;
      if (this.#forgotten.has(machine)) return null;
      const { account, info, time, ref } = record;
      const end = this.#options.accounts ? { atMs: Math.floor(diedMs / 10) * 10, cpuMs: 0 } : null;
      return { id, account, info, time, hostBootId: ref.hostBootId, end };
    };
    return {
      owners: async () => new Set((await registry.list()).map(({ account }) => account)),
      timeOf: async (id) => {
        const time = (await registry.get(id))?.time;
        if (time !== undefined) {
          const { axisMs, movedMs, endsMs } = time;
          return { axisMs, sinceMs: axisMs + movedMs, endsMs: endsMs === null ? null : axisMs + endsMs };
        }
        const axis = (await snapshots.findImage(id))?.meta.axis;
        if (axis === undefined) return null;
        return { axisMs: axisNow(axis, { clock, host: this.world.host }), sinceMs: axis.atMs, endsMs: null };
      },
      ends: () => [...this.#records.keys()].map(endOf).filter((end) => end !== null),
      endOf,
      forgetEnd: (id) => {
        const machine = this.#machines.get(id);
        if (machine !== undefined && this.#died.has(machine)) this.#forgotten.add(machine);
      },
      runs: async () => [],
      axis: this.axis?.() ?? null,
      pulse: async (id) => {
        const isOver = this.machine(id) === undefined || this.world.host.over.has(id);
        return isOver ? null : { cpuUsedMs: null, endsMs: null };
      },
      egressBytes: async (id) => this.world.host.networks.get(id)?.usage()?.bytesOut ?? null,
      changed: () => undefined,
    };
  }

  #journal(isOver: () => boolean): Journal {
    return {
      read: () => ({ moves: [...this.#lines], stored: [] }),
      moved: (move) => void (isOver() || this.#lines.push(move)),
      stored: () => undefined,
      empty: () => void (isOver() || this.#lines.splice(0)),
      [Symbol.dispose]: () => undefined,
    };
  }
}

/** A store that a killed process does not reach any more: its calls never end. */
function deaf(books: Books, isOver: () => boolean): Books {
  return new Proxy(books, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      return (...given: unknown[]) => (isOver() ? new Promise(() => undefined) : value.apply(target, given));
    },
  });
}
