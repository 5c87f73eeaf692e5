/** An engine over fakes, and the books that tell whether it left anything behind. */
import { expect } from "bun:test";
import { type Clock, systemClock } from "../../src/base/clock.ts";
import { createLog } from "../../src/base/log.ts";
import type { BakeEvent, TemplateInfo } from "../../src/contract/routes/templates.ts";
import type { VmRef } from "../../src/driver/driver.ts";
import { FakeDriver, type FakeHooks } from "../../src/driver/fake.ts";
import type { EngineOptions } from "../../src/engine/create/options.ts";
import { Engine } from "../../src/engine/engine.ts";
import type { SandboxRecord } from "../../src/engine/registry.ts";
import type { OpenTemplate, TemplateSize, TemplateStore } from "../../src/engine/templates.ts";
import { WarrenError } from "../../src/errors.ts";
import { FakeHost, FakeRegistry } from "../../src/host/fake.ts";
import type { Host } from "../../src/host/host.ts";
import { FakeSnapshots } from "./fake/fake-snapshots.ts";
import { FakeVolumes } from "./fake/fake-volumes.ts";
import { MemoryKeeper } from "./fake/memory-keeper.ts";

const TEMPLATES = ["base", "code-interpreter"];

/** Two templates, baked at once. */
export class FakeTemplates implements TemplateStore {
  readonly #open = new Map<string, OpenTemplate>();
  /** Runs before a template is opened; may throw, or take its time. */
  opening: (size: TemplateSize, signal?: AbortSignal) => void | Promise<void> = () => undefined;
  /** Runs at each step of a bake; may throw. */
  baking: () => void = () => undefined;
  workingSetMib = 64;
  warm = false;
  closed = 0;

  async list(): Promise<TemplateInfo[]> {
    return TEMPLATES.map((name) => ({ name, description: name, baked: [], diskBytes: 0 }));
  }

  has(name: string): boolean {
    return TEMPLATES.includes(name);
  }

  defaults(name: string): { cpu: number; memoryMib: number } {
    if (!this.has(name)) throw new WarrenError("template_not_found", `there is no template ${name}`);
    return { cpu: 1, memoryMib: 512 };
  }

  async open(size: TemplateSize, onStep?: (e: BakeEvent) => void, signal?: AbortSignal): Promise<OpenTemplate> {
    await this.opening(size, signal);
    signal?.throwIfAborted();
    const digest = `${size.name}/${size.cpu}/${size.memoryMib}`;
    const known = this.#open.get(digest);
    if (known !== undefined) return known;
    onStep?.({ step: 1, steps: 1, says: "bake", elapsedMs: 0 });
    const { cpu, memoryMib } = size;
    const made: OpenTemplate = {
      size,
      machine: { cpu, memoryMib, accel: { kind: "tcg" } },
      snapshot: { memory: { layerFds: [-1], tableFd: -1 }, layers: [], openState: () => -1, diskFd: -1 },
      digest,
      workingSetMib: this.workingSetMib,
      warm: this.warm,
      base: { ...size, digest },
      hold: () => () => undefined,
    };
    this.#open.set(digest, made);
    return made;
  }

  async bake(_: TemplateSize, force: boolean, onStep: (e: BakeEvent) => void, signal?: AbortSignal): Promise<void> {
    for (const step of [1, 2]) {
      await Promise.resolve();
      signal?.throwIfAborted();
      this.baking();
      onStep({ step, steps: 2, says: force ? "build again" : "build", elapsedMs: step });
    }
  }

  async remove(name: string): Promise<void> {
    this.defaults(name);
  }

  close(): void {
    this.closed += 1;
  }
}

/** A machine with its home; several engines on one world are several processes of it. */
export class World {
  readonly clock: Clock;
  readonly host: FakeHost;
  readonly driver: FakeDriver;
  readonly templates = new FakeTemplates();
  readonly snapshots = new FakeSnapshots();
  readonly volumes: FakeVolumes;
  readonly registry: FakeRegistry<SandboxRecord>;
  readonly keeper: MemoryKeeper;
  /** What the engine logged at `error`: a healthy run has none. */
  readonly errors: string[] = [];
  readonly #makers = new Map<string, Engine>();
  readonly #gone = new Set<Engine>();

  constructor(clock: Clock = systemClock, hooks: FakeHooks = {}) {
    this.clock = clock;
    this.host = new FakeHost(clock);
    this.driver = new FakeDriver({ clock, bootTimeNs: () => this.host.bootTimeNs() }, hooks);
    this.volumes = new FakeVolumes(this.driver);
    this.registry = new FakeRegistry<SandboxRecord>(
      ({ ref }) => this.driver.machines.get(ref.id)?.pid === ref.pid,
      (id) => {
        const maker = this.#makers.get(id);
        if (!this.driver.machines.has(id) && maker !== undefined && this.#gone.has(maker)) this.host.reclaim(id);
      },
    );
    const lives = (ref: VmRef): boolean => this.driver.machines.get(ref.id)?.pid === ref.pid;
    this.keeper = new MemoryKeeper({
      registry: this.registry,
      networkOf: (ref) => this.host.networkOf(ref),
      lives,
      clock,
    });
  }

  /** The process of an engine ends in good order. */
  async end(engine: Engine): Promise<void> {
    await engine.close();
    this.#gone.add(engine);
  }

  /** No pool by default: what it does in the background belongs to the tests about it. */
  engine(options: EngineOptions = {}): Engine {
    const { driver, templates, snapshots, volumes, registry, keeper, clock } = this;
    const egress = { upstreams: [], exempt: [] };
    const log = createLog("error", (line) => this.errors.push(line));
    const fake = this.host;
    const host: Host = {
      capacity: () => this.host.capacity(),
      processMemory: () => this.host.processMemory(),
      bootId: this.host.bootId,
      bootTimeNs: () => this.host.bootTimeNs(),
      checkpoint: (ask) => this.host.checkpoint(ask),
      mergeLayers: (memoryMib, layers) => this.host.mergeLayers(memoryMib, layers),
      get networkDegraded() {
        return fake.networkDegraded;
      },
      networkOf: (ref) => this.host.networkOf(ref),
      diskOf: () => this.host.diskOf(),
      lives: (ref) => this.host.lives(ref),
      close: (fd) => this.host.close(fd),
      flushDisk: () => this.host.flushDisk(),
      lease: async (ask) => {
        this.#makers.set(ask.id, engine);
        const lease = await this.host.lease(ask);
        // A process that is gone gives nothing back.
        const give = async () => (this.#gone.has(engine) ? undefined : lease[Symbol.asyncDispose]());
        return { ...lease, [Symbol.asyncDispose]: give };
      },
    };
    const engine = new Engine(
      { host, driver, templates, snapshots, volumes, registry, keeper, egress, clock, log },
      { prepared: 0, ...options },
    );
    return engine;
  }

  /** Everything lent is given back by who took it, once, but for what outlived its maker; and nothing went wrong. */
  expectNothingLeft({ reclaimed = 0 }: { readonly reclaimed?: number } = {}): void {
    expect([...this.driver.machines.keys()]).toEqual([]);
    expect([...this.host.lent.keys()]).toEqual([]);
    expect({ given: this.host.given, reclaimed: this.host.reclaimed }).toEqual({
      ...{ given: this.host.made - reclaimed, reclaimed },
    });
    expect(this.registry.size).toBe(0);
    expect(this.errors).toEqual([]);
  }
}
