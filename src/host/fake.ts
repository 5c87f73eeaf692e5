/** A host in memory for fast tests: leases without anything behind them, books on what is lent, and a register. */
import type { Clock } from "../base/clock.ts";
import type { Run, VmRef } from "../driver/driver.ts";
import { WarrenError } from "../errors.ts";
import { FakeNetwork } from "./fake-network.ts";
import type { Capacity, Checkpoint, CheckpointAsk, Host, Layer, Lease, LeaseAsk, OwnSnapshot } from "./host.ts";

export interface FakeHostHooks {
  /** Before a lease is made; may throw, or take its time. */
  readonly lease?: (ask: LeaseAsk) => void | Promise<void>;
  /** While a lease is given back; may throw. */
  readonly give?: (id: string) => void | Promise<void>;
  /** Before the files of a checkpoint are made, and before its disk is taken; may throw. */
  readonly checkpoint?: (ask: CheckpointAsk) => void;
  readonly takeDisk?: () => void;
  /** The network of a lease, null for a host that has none; may throw. Without it each lease has one of its own. */
  readonly network?: (ask: LeaseAsk) => FakeNetwork | null;
}

const ROOMY: Capacity = {
  cores: 2,
  memoryTotalMib: 16 * 1024,
  memoryAvailableMib: 15 * 1024,
  memoryPressure: 0,
  diskFreeBytes: 2 ** 40,
};

export class FakeHost implements Host {
  readonly #clock: Clock;
  /** Null in a test about networks: else what is not asked for opens no sockets. */
  networkDegraded: string | null = "this host is in memory";
  /** Replaceable at any time. */
  hooks: FakeHostHooks = {};
  /** Leases not given back, by id. */
  readonly lent = new Map<string, LeaseAsk>();
  /** Leases ever made, given back by their holder, and freed for one that is gone. */
  made = 0;
  given = 0;
  reclaimed = 0;
  /** Numbers that stand for open files of checkpoints and layers; empty when nothing leaks. */
  readonly openFiles = new Set<number>();
  /** Of leases not given back, by id. */
  readonly networks = new Map<string, FakeNetwork>();
  #room: Capacity = ROOMY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  capacity(): Capacity {
    return this.#room;
  }

  /** Changes what this host has. */
  set room(change: Partial<Capacity>) {
    this.#room = { ...this.#room, ...change };
  }

  async lease(ask: LeaseAsk): Promise<Lease> {
    await this.hooks.lease?.(ask);
    if (this.lent.has(ask.id)) throw new WarrenError("internal", `${ask.id} has a lease already`);
    const network = this.hooks.network === undefined ? new FakeNetwork() : this.hooks.network(ask);
    this.lent.set(ask.id, ask);
    this.made += 1;
    if (network !== null) this.networks.set(ask.id, network);
    return {
      id: ask.id,
      disk: { rwFd: -1, roFd: -1 },
      stateFd: -1,
      socketDir: `/fake/${ask.id}`,
      jail: { uid: 100_000 + this.made, cgroupFds: [], slotFd: -1, netnsFd: null, exitsPath: null },
      network,
      handedOver: () => undefined,
      carry: () => undefined,
      memoryMib: () => 0,
      cpuMs: () => 0,
      [Symbol.asyncDispose]: async () => {
        await this.hooks.give?.(ask.id);
        this.networks.delete(ask.id);
        if (this.lent.delete(ask.id)) this.given += 1;
      },
    };
  }

  /** Frees what is left of a lease whose machine is gone, as another process of the home would. */
  reclaim(id: string): void {
    this.networks.delete(id);
    if (this.lent.delete(id)) this.reclaimed += 1;
  }

  checkpoint(ask: CheckpointAsk): Checkpoint {
    this.hooks.checkpoint?.(ask);
    return new FakeCheckpoint(this.openFiles, this.hooks);
  }

  async mergeLayers(_: number, layers: readonly Layer[]): Promise<Layer> {
    const fd = nextFile++;
    this.openFiles.add(fd);
    return fakeLayer(
      this.openFiles,
      fd,
      layers.flatMap(({ runs }) => runs),
    );
  }

  diskOf(): number {
    const fd = nextFile++;
    this.openFiles.add(fd);
    return fd;
  }

  processMemory(): { readonly pssBytes: number; readonly rssBytes: number } {
    return { pssBytes: 1024, rssBytes: 4096 };
  }

  networkOf({ id }: VmRef): FakeNetwork | null {
    return this.networks.get(id) ?? null;
  }

  /** Of machines whose end nobody has noticed yet. */
  readonly over = new Set<string>();

  lives({ id }: VmRef): boolean {
    return !this.over.has(id);
  }

  close(fd: number): void {
    this.openFiles.delete(fd);
  }

  async flushDisk(): Promise<void> {}

  readonly bootId = "fake";

  bootTimeNs(): bigint {
    return BigInt(Math.round(this.#clock.monotonicMs() * 1e6));
  }
}

let nextFile = 1_000_000;

class FakeCheckpoint implements Checkpoint {
  readonly memoryFd: number;
  readonly stateFd: number;
  readonly #open: Set<number>;
  readonly #hooks: FakeHostHooks;
  readonly #own = new Set<number>();

  constructor(open: Set<number>, hooks: FakeHostHooks) {
    this.#open = open;
    this.#hooks = hooks;
    this.memoryFd = this.#file();
    this.stateFd = this.#file();
  }

  takeDisk(): void {
    this.#hooks.takeDisk?.();
    this.#file();
  }

  layer(runs: readonly Run[]): Layer {
    this.#own.delete(this.memoryFd);
    return fakeLayer(this.#open, this.memoryFd, runs);
  }

  snapshot(layers: readonly Layer[]): OwnSnapshot {
    const own = [...this.#own];
    this.#own.clear();
    for (const layer of layers) layer.hold();
    return {
      memory: { layerFds: layers.map(({ fd }) => fd), tableFd: -1 },
      layers,
      diskFd: own.at(-1) ?? -1,
      openState: () => -1,
      release: () => {
        for (const fd of own) this.#open.delete(fd);
        for (const layer of layers) layer.release();
      },
    };
  }

  [Symbol.dispose](): void {
    for (const fd of this.#own) this.#open.delete(fd);
  }

  #file(): number {
    const fd = nextFile++;
    this.#own.add(fd);
    this.#open.add(fd);
    return fd;
  }
}

function fakeLayer(open: Set<number>, fd: number, runs: readonly Run[]): Layer {
  let holds = 1;
  return {
    fd,
    runs,
    hold() {
      holds += 1;
    },
    release() {
      holds -= 1;
      if (holds < 0) throw new Error("a layer was released once too often");
      if (holds === 0) open.delete(fd);
    },
  };
}

/** A register in memory; several engines of one process may share it as if they were several processes. */
export class FakeRegistry<R extends { readonly id: string }> {
  readonly #records = new Map<string, R>();
  readonly #claims = new Set<string>();
  readonly #alive: (record: R) => boolean;
  readonly #reclaim: (id: string) => void;

  /** `alive` says whether a record's machine still lives; `reclaim` frees what is left of one that does not. */
  constructor(alive: (record: R) => boolean, reclaim: (id: string) => void) {
    this.#alive = alive;
    this.#reclaim = reclaim;
  }

  get size(): number {
    return this.#records.size;
  }

  async put(record: R): Promise<void> {
    this.#records.set(record.id, record);
  }

  async remove(id: string): Promise<void> {
    this.#records.delete(id);
    this.#reclaim(id);
  }

  async get(id: string): Promise<R | null> {
    const record = this.#records.get(id);
    if (record === undefined || this.#alive(record)) return record ?? null;
    await this.remove(id);
    return null;
  }

  async list(): Promise<R[]> {
    const all = await Promise.all([...this.#records.keys()].map((id) => this.get(id)));
    return all.filter((record) => record !== null);
  }

  async claimPort(id: string): Promise<{ readonly index: number; release(): void } | null> {
    for (const index of [1, 2, 3]) {
      const claim = `${id}:${index}`;
      if (this.#claims.has(claim)) continue;
      this.#claims.add(claim);
      return { index, release: () => void this.#claims.delete(claim) };
    }
    return null;
  }
}
