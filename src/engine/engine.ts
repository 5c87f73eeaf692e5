/**
 * The engine: sandboxes of this process and, through the register, of its home, as each account sees them. It implements
 * the contract for embedded use; the API mounts the same object.
 */
import type { Static, TObject, TString } from "@sinclair/typebox";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { parse } from "../contract/parse.ts";
import type { CallOptions, Input, Route } from "../contract/route.ts";
import type { SandboxCreate, SandboxInfo, SandboxList } from "../contract/routes/sandboxes.ts";
import type { SnapshotInfo } from "../contract/routes/snapshots.ts";
import { routes, type SandboxHost } from "../contract/routes.ts";
import type { Driver } from "../driver/driver.ts";
import { WarrenError } from "../errors.ts";
import type { Host } from "../host/host.ts";
import { LIMITS } from "../limits.ts";
import { guestCalls, type Reached, type Used } from "./calls.ts";
import { contextCalls } from "./contexts/calls.ts";
import { Admission } from "./create/admit.ts";
import type { SandboxParts } from "./create/clone.ts";
import { Creates } from "./create/creates.ts";
import { type EngineOptions, OPERATOR } from "./create/options.ts";
import { Pool } from "./create/pool.ts";
import { borrow } from "./fork/borrowed.ts";
import { Forks } from "./fork/forks.ts";
import { Hibernation } from "./fork/hibernation.ts";
import { Idle } from "./fork/idle.ts";
import { snapshotCalls, takeSnapshot } from "./fork/snapshots.ts";
import { Hold } from "./hold.ts";
import { lifeCalls } from "./life/calls.ts";
import { endSeen } from "./life/ends.ts";
import { selected } from "./life/listing.ts";
import { isTerminal, Lifecycle } from "./lifecycle.ts";
import type { Live } from "./live.ts";
import { MoveLog } from "./log.ts";
import { Neighbours } from "./neighbours.ts";
import { networkCalls } from "./network/calls.ts";
import { Networks, type NetworksParts } from "./network/networks.ts";
import { DEFAULT_TEMPLATE } from "./plan.ts";
import { portCalls } from "./ports/calls.ts";
import { explain, notFound, notRunning } from "./reached.ts";
import type { Registry, SandboxRecord } from "./registry.ts";
import type { SnapshotStore } from "./snapshots.ts";
import { loggedSnapshots, loggedTemplates, loggedVolumes, StorageLog } from "./storage/log.ts";
import { templateCalls } from "./template-calls.ts";
import type { TemplateStore } from "./templates.ts";
import { volumeCalls } from "./volumes/calls.ts";
import type { VolumeStore } from "./volumes/store.ts";
import { runningBody, Volumes } from "./volumes/volumes.ts";

/** What an engine stands on. */
export interface EngineParts {
  readonly driver: Driver;
  readonly host: Host;
  readonly templates: TemplateStore;
  readonly snapshots: SnapshotStore;
  readonly volumes: VolumeStore;
  readonly registry: Registry;
  readonly egress: NetworksParts["egress"];
  readonly keeper: NetworksParts["keeper"];
  readonly clock: Clock;
  readonly log: Log;
}

export class Engine implements AsyncDisposable {
  /** Every lifecycle move of this process's sandboxes; bills are folded from it. */
  readonly moves: MoveLog;
  /** Everything that this process keeps on disk, from when to when: storage is billed by it. */
  readonly storage: StorageLog;
  readonly #parts: EngineParts & SandboxParts;
  readonly #admission: Admission;
  readonly #pool: Pool;
  readonly #lifecycle: Lifecycle;
  readonly #neighbours: Neighbours;
  readonly #creates: Creates;
  readonly #forks: Forks;
  readonly #hibernation: Hibernation;
  readonly #idle: Idle;
  readonly #volumes: Volumes;
  readonly #hold: Hold;
  #closed: Promise<void> | null = null;

  constructor(given: EngineParts, options: EngineOptions = {}) {
    const { host, clock, log } = given;
    this.storage = new StorageLog(clock, log);
    const snapshots = loggedSnapshots(given.snapshots, this.storage);
    const parts = { ...given, snapshots, volumes: loggedVolumes(given.volumes, this.storage) };
    const networks = new Networks(parts);
    const clones = { ...parts, networks, reseed: options.reseed ?? true };
    this.#parts = clones;
    this.#hold = new Hold(clock);
    this.moves = new MoveLog(log);
    this.#lifecycle = new Lifecycle(clock, log, this.moves, host);
    this.#admission = new Admission(() => host.capacity(), clock, {
      vcpusPerCore: options.vcpusPerCore ?? LIMITS.vcpusPerCore,
      queue: options.queue ?? LIMITS.createQueue,
    });
    this.#pool = new Pool(clones, this.#admission, {
      prepared: options.prepared ?? LIMITS.preparedPerTemplate,
      preparedIdleMs: options.preparedIdleMs ?? LIMITS.preparedIdleMs,
      ready: options.ready ?? 0,
      detached: options.detachedPool ?? false,
      held: (id, mib) => this.storage.append("ready", options.poolAccount ?? OPERATOR, id, mib * 2 ** 20),
    });
    this.#admission.shed = () => this.#pool.shed();
    this.#neighbours = new Neighbours({ ...parts, met: (record, agent) => networks.meet(record, agent) });
    this.#creates = new Creates(clones, this.#admission, this.#pool, this.#lifecycle, {
      queue: options.queue ?? LIMITS.createQueue,
      waitMs: options.createWaitMs ?? LIMITS.createWaitMs,
      detachedPool: options.detachedPool ?? false,
      onBake: options.onBake ?? (() => undefined),
    });
    this.#forks = new Forks(clones, this.#lifecycle, this.#creates);
    this.#hibernation = new Hibernation(clones, this.#lifecycle, this.#creates, this.#forks, options.admitWake);
    const find = (id: string) => this.#lifecycle.get(id);
    this.#idle = new Idle({ clock, log, find, act: (live) => this.#hold.during(() => this.#whenIdle(live)) });
    this.moves.subscribe((move) => this.#idle.moved(move));
    this.#volumes = new Volumes(parts, this.#lifecycle, (live, job) =>
      this.#idle.during(live.id, () => this.#forks.alone(live, job)),
    );
  }

  /** The engine as one account sees it; sandboxes of others do not exist there. */
  as(account: string): SandboxHost {
    const hold = this.#hold;
    return {
      create: (input, options = {}) =>
        hold.during(async () => {
          this.#refuseWhenClosed();
          return this.#create(account, input, options);
        }),
      get: (input) => hold.during(async () => this.#get(account, parse(routes.get.input, input).id)),
      list: (input) => hold.during(async () => this.#list(account, parse(routes.list.input, input))),
      fork: (input, options = {}) =>
        this.#onAny(account, routes.fork, input, (live, asked) => this.#forks.fork(live, asked, options)),
      forkTree: (input, options = {}) =>
        this.#onAny(account, routes.forkTree, input, (live, asked) => this.#forks.forkTree(live, asked, options)),
      promote: (input) =>
        this.#onOwn(account, routes.promote, input, (live, asked) => this.#forks.promote(live, asked)),
      pause: (input) => this.#onAny(account, routes.pause, input, (live) => this.#forks.pause(live)),
      resume: (input) => this.#onAny(account, routes.resume, input, (live) => this.#forks.resume(live)),
      hibernate: (input) =>
        this.#onAny(account, routes.hibernate, input, (live) => this.#hibernation.hibernate(live), { wakes: false }),
      wake: (input, { signal } = {}) =>
        this.#onAny(account, routes.wake, input, (live) => this.#hibernation.wake(live, signal)),
      snapshot: (input, { signal } = {}) =>
        this.#onAny(account, routes.snapshot, input, (live, asked) => this.#snapshot(live, asked, signal)),
      ...lifeCalls(
        { parts: this.#parts, lifecycle: this.#lifecycle, idle: this.#idle, hold },
        {
          info: (id) => this.#get(account, id),
          mine: (id) => this.#mine(account, id),
          awake: (id) => this.#awakeOrMine(account, id),
        },
      ),
      close: (input) => hold.during(async () => this.#close(account, parse(routes.close.input, input).id)),
      ...guestCalls((id) => this.#reach(account, id), hold),
      ...portCalls((id) => this.#reach(account, id), hold),
      ...contextCalls((id) => this.#reach(account, id), hold, this.#parts.clock),
      ...templateCalls(loggedTemplates(this.#parts.templates, this.storage, account), hold),
      ...snapshotCalls(this.#parts.snapshots, account, hold),
      ...networkCalls(this.#parts.networks, (id, wakes) => this.#found(account, id, wakes), hold),
      ...volumeCalls(this.#volumes, account, (id) => this.#awakeOrMine(account, id), hold),
    };
  }

  /**
   * Fills the pool for a template of this size now, off any create's path.
   * @returns how many clones then wait.
   */
  prepare(
    size: { readonly template?: string; readonly cpu?: number; readonly memoryMb?: number } = {},
    options: CallOptions = {},
  ): Promise<number> {
    return this.#hold.during(async () => {
      this.#refuseWhenClosed();
      const { template, cpu, memoryMb } = parse(routes.create.input, size);
      const name = template ?? DEFAULT_TEMPLATE;
      const own = this.#parts.templates.defaults(name);
      const wanted = { name, cpu: cpu ?? own.cpu, memoryMib: memoryMb ?? own.memoryMib };
      return this.#pool.fill(await this.#parts.templates.open(wanted, undefined, options.signal));
    });
  }

  /** Creates that wait for room, and clones in the pool. */
  load(): { readonly waiting: number; readonly pooled: number } {
    return { waiting: this.#admission.waiting, pooled: this.#pool.size };
  }

  /** Memory charged to this process's running sandboxes, MiB; null where no memory controller tells. */
  memoryMib(): number | null {
    const charged = this.#lifecycle
      .all()
      .filter((live) => live.body !== null)
      .map((live) => live.body?.lease.memoryMib() ?? null)
      .filter((mib) => mib !== null);
    return charged.length === 0 ? null : charged.reduce((sum, mib) => sum + mib, 0);
  }

  /** Ends every sandbox that is not detached, and waits until all is given back. Creates under way are cancelled. */
  close(): Promise<void> {
    this.#closed ??= this.#hold.during(() => this.#shutDown());
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #shutDown(): Promise<void> {
    await this.#creates.close();
    this.#idle.close();
    await Promise.all(this.#lifecycle.all().map((live) => this.#part(live)));
    await this.#pool.close();
    await this.#neighbours.close();
    this.#parts.templates.close();
  }

  /** A detached sandbox stays without this process, running, paused or asleep; any other ends. */
  async #part(live: Live): Promise<void> {
    const stays = live.spec.detached && ["running", "paused", "hibernated"].includes(live.info.state);
    if (!stays) return this.#end(live, "its engine was closed");
    live.released = true;
    live.cancelExpiry();
    await live.body?.agent.close();
  }

  /** What it wrote to its volumes is put on disk first. */
  async #end(live: Live, reason: string): Promise<void> {
    const askedMs = this.#parts.clock.monotonicMs();
    const seen = endSeen(live, this.#parts);
    if (seen !== null) await seen;
    await this.#volumes.flush(live.info, () => Promise.resolve(runningBody(live)));
    await this.#lifecycle.end(live, reason, seen === null ? askedMs : live.movedMs);
  }

  /** What was asked for when nobody uses it. Another process may use a detached one: that says so in the register. */
  async #whenIdle(live: Live): Promise<void> {
    if (live.spec.detached && (await this.#neighbours.areConnected(live.id))) return;
    if (live.spec.idle?.action === "hibernate") await this.#hibernation.hibernate(live);
    else await this.#end(live, `nobody used it for ${live.spec.idle?.seconds} s`);
  }

  #refuseWhenClosed(): void {
    if (this.#closed !== null) throw new WarrenError("wrong_state", "this engine is closed: open another");
  }

  #own(account: string, id: string): Live | null {
    const live = this.#lifecycle.get(id);
    return live?.account === account ? live : null;
  }

  /** A call on a sandbox of this process, its input checked by the row's schema. */
  #onOwn<R extends Route & { readonly input: TObject<{ id: TString }> }, T>(
    account: string,
    route: R,
    input: Input<R>,
    job: (live: Live, asked: Static<R["input"]>) => Promise<T>,
  ): Promise<T> {
    return this.#hold.during(async () => {
      const asked = parse(route.input, input) as Static<R["input"]>;
      return job(await this.#mine(account, asked.id), asked);
    });
  }

  /** The same, of one that is woken first when it hibernates, or that another process made. */
  #onAny<R extends Route & { readonly input: TObject<{ id: TString }> }, T>(
    account: string,
    route: R,
    input: Input<R>,
    job: (live: Live, asked: Static<R["input"]>) => Promise<T>,
    { wakes } = { wakes: true },
  ): Promise<T> {
    return this.#hold.during(async () => {
      const asked = parse(route.input, input) as Static<R["input"]>;
      this.#refuseWhenClosed();
      return this.#idle.during(asked.id, async () => {
        const live = wakes ? await this.#awake(account, asked.id) : await this.#here(account, asked.id);
        if (live !== null) return job(live, asked);
        const record = await this.#neighbours.find(account, asked.id);
        if (record === null) throw notFound(asked.id);
        return borrow(this.#parts, this.#neighbours, record, (borrowed) => job(borrowed, asked));
      });
    });
  }

  /** One of this process's, or one that hibernates, whoever made it; null when it is neither. */
  async #here(account: string, id: string): Promise<Live | null> {
    const own = this.#own(account, id);
    if (own !== null && (await this.#hibernation.isElsewhere(own))) {
      this.#lifecycle.forget(own);
      return null;
    }
    if (own !== null && !isTerminal(own)) return own;
    return (await this.#hibernation.adopt(account, id)) ?? own; // what ended here may sleep by another process's doing
  }

  /** The same, or the record of one that another process made. @throws {WarrenError} `not_found` */
  async #found(account: string, id: string, wakes = false): Promise<Live | SandboxRecord> {
    const own = wakes ? this.#awake(account, id) : this.#here(account, id);
    const found = (await own) ?? (await this.#neighbours.find(account, id));
    if (found === null) throw notFound(id);
    return found;
  }

  /** The same, woken when it hibernates. */
  async #awake(account: string, id: string): Promise<Live | null> {
    const live = await this.#here(account, id);
    if (live?.info.state === "hibernated") await this.#hibernation.wake(live);
    return live;
  }

  /** The same. @throws {WarrenError} as {@link Engine.#mine} does */
  async #awakeOrMine(account: string, id: string): Promise<Live> {
    return (await this.#awake(account, id)) ?? this.#mine(account, id);
  }

  /** With its volumes, or not at all. */
  async #create(account: string, input: SandboxCreate, options: CallOptions): Promise<SandboxInfo> {
    const { volumes = [] } = parse(routes.create.input, input);
    await this.#volumes.check(account, volumes);
    const info = await this.#creates.run(account, input, options);
    const live = this.#lifecycle.get(info.id);
    if (live === undefined || volumes.length === 0) return info;
    try {
      for (const volume of volumes) await this.#volumes.attach(live, volume, options);
      return live.info;
    } catch (cause) {
      await this.#lifecycle.end(live, "a volume could not be attached");
      throw cause;
    }
  }

  /** A sandbox of this process. @throws {WarrenError} `not_found`; `unsupported` – another process made it */
  async #mine(account: string, id: string): Promise<Live> {
    this.#refuseWhenClosed();
    const live = this.#own(account, id);
    if (live !== null) return live;
    if ((await this.#neighbours.find(account, id)) === null) throw notFound(id);
    throw new WarrenError("unsupported", `sandbox ${id} was made by another process: only its maker can do that`, {
      details: { id },
    });
  }

  #snapshot(live: Live, asked: Parameters<SandboxHost["snapshot"]>[0], signal?: AbortSignal): Promise<SnapshotInfo> {
    const { snapshots, clock } = this.#parts;
    return takeSnapshot(snapshots, live, asked, clock.wallMs(), () => this.#forks.checkpoint(live, signal), signal);
  }

  async #get(account: string, id: string): Promise<SandboxInfo> {
    const own = this.#own(account, id)?.info;
    const info = own ?? (await this.#hibernation.list(account)).find((one) => one.id === id);
    const found = info ?? (await this.#neighbours.find(account, id))?.info;
    if (found === undefined) throw notFound(id);
    return found;
  }

  async #list(account: string, asked: Static<typeof SandboxList>): Promise<SandboxInfo[]> {
    const own = this.#lifecycle.all().filter((live) => live.account === account);
    const mine = new Set(own.map((live) => live.id));
    const asleep = (await this.#hibernation.list(account)).filter(({ id }) => !mine.has(id));
    const known = new Set([...mine, ...asleep.map(({ id }) => id)]);
    const others = (await this.#neighbours.list(account)).filter((record) => !known.has(record.id));
    const infos = own.filter((live) => asked.state !== undefined || !isTerminal(live)).map((live) => live.info);
    return selected([...infos, ...others.map((record) => record.info), ...asleep], asked);
  }

  async #close(account: string, id: string): Promise<void> {
    const live = await this.#here(account, id);
    if (live !== null) return this.#end(live, "closed");
    const record = await this.#neighbours.find(account, id);
    if (record !== null) {
      await this.#volumes.flush(record.info, () => this.#neighbours.reach(record));
      return this.#neighbours.end(record);
    }
    if (!this.#neighbours.knew(account, id)) throw notFound(id);
  }

  async #reach(account: string, id: string): Promise<Used> {
    const done = await this.#idle.begin(id);
    try {
      return { ...(await this.#reached(account, id)), done, use: () => this.#idle.use(id) };
    } catch (cause) {
      done();
      throw cause;
    }
  }

  async #reached(account: string, id: string): Promise<Reached> {
    const live = await this.#awake(account, id);
    if (live === null) {
      const record = await this.#neighbours.find(account, id);
      if (record === null) throw notFound(id);
      return this.#neighbours.reach(record);
    }
    const { info, body, spec } = live;
    if (info.state !== "running" || body === null) throw notRunning(info);
    return { agent: body.agent, env: spec.env, workdir: spec.workdir, explain: (cause) => explain(live, cause, body) };
  }
}
