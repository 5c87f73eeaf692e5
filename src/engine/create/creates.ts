/**
 * Creates under way, from the input to a running sandbox: resolve, open the template, wait for room, boot, watch. Each can
 * be aborted at any point and then leaves nothing.
 */
import { sandboxId } from "../../base/id.ts";
import { parse } from "../../contract/parse.ts";
import type { CallOptions } from "../../contract/route.ts";
import type { SandboxCreate, SandboxInfo } from "../../contract/routes/sandboxes.ts";
import type { BakeEvent } from "../../contract/routes/templates.ts";
import { routes } from "../../contract/routes.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import { namedSnapshot } from "../fork/snapshots.ts";
import { isTerminal, type Lifecycle } from "../lifecycle.ts";
import type { Live } from "../live.ts";
import { newInfo, resolve, type SandboxSpec, sizeOf } from "../plan.ts";
import { type Registry, recordOf } from "../registry.ts";
import type { HeldPoint, SnapshotStore } from "../snapshots.ts";
import type { OpenTemplate, TemplateStore } from "../templates.ts";
import { watch } from "../watch.ts";
import type { Admission, Ticket } from "./admit.ts";
import { bootClone, type Order } from "./boot.ts";
import { type AwakeClone, asWarrenError, type Clone, type SandboxParts } from "./clone.ts";
import type { Pool, Pooled } from "./pool.ts";

export interface CreateParts extends SandboxParts {
  readonly templates: TemplateStore;
  readonly snapshots: SnapshotStore;
  readonly registry: Registry;
}

export interface CreateOptions {
  readonly queue: number;
  readonly waitMs: number;
  /** Whether the pool's clones are detached ones. */
  readonly detachedPool: boolean;
  readonly onBake: (event: BakeEvent) => void;
}

/** What a clone of a point in a sandbox's life is made of. */
export interface Fork {
  readonly origin: OpenTemplate;
  readonly spec: SandboxSpec;
  readonly parentId: string | null;
  /** Wall clock by which it ends, however long it waits for its room; null for whenever its spec says. */
  readonly endsMs: number | null;
}

interface Wish extends Fork {
  readonly account: string;
  readonly began: CallOptions["began"];
}

/** A create that has its place on this host. */
interface Granted {
  readonly live: Live;
  readonly pooled: Pooled | null;
  readonly ticket: Ticket;
  /** Monotonic clock at admission. */
  readonly grantedMs: number;
}

export class Creates {
  readonly #parts: CreateParts;
  readonly #admission: Admission;
  readonly #pool: Pool;
  readonly #lifecycle: Lifecycle;
  readonly #options: CreateOptions;
  readonly #closing = new AbortController();
  readonly #running = new Set<Promise<unknown>>();
  /** Creates whose template is not open yet; they count as waiting. */
  #opening = 0;

  constructor(parts: CreateParts, admission: Admission, pool: Pool, lifecycle: Lifecycle, options: CreateOptions) {
    this.#parts = parts;
    this.#admission = admission;
    this.#pool = pool;
    this.#lifecycle = lifecycle;
    this.#options = options;
  }

  /** @throws {WarrenError} as the contract's `create` says. */
  run(account: string, input: SandboxCreate, options: CallOptions): Promise<SandboxInfo> {
    const made = this.#create(account, input, options).finally(() => this.#running.delete(made));
    this.#running.add(made);
    return made;
  }

  /** A clone of a point in another sandbox's life. @throws {WarrenError} as the contract's `create` says */
  fork(account: string, from: Fork, options: CallOptions): Promise<SandboxInfo> {
    const made = this.#cancellable(options, async (signal) => {
      this.#refuseFull();
      return this.#make({ account, ...from, began: options.began }, signal);
    }).finally(() => this.#running.delete(made));
    this.#running.add(made);
    return made;
  }

  /**
   * Brings a hibernated sandbox back; `beforeRun` is called before its guest's first instruction.
   * @throws {WarrenError} as the contract's `create` says; nothing of the try is left
   */
  wake(live: Live, origin: OpenTemplate, beforeRun: () => Promise<void>, signal?: AbortSignal): Promise<AwakeClone> {
    const options = signal === undefined ? {} : { signal };
    const woken = this.#cancellable(options, async (stop) => {
      const need = () => ({ vcpus: live.spec.cpu, memoryMib: origin.workingSetMib });
      const ticket = await this.#admitted(live.account, need, (granted) => granted, stop);
      const granted = { live, pooled: null, ticket, grantedMs: this.#parts.clock.monotonicMs() };
      const body = await bootClone(this.#parts, { ...this.#order(granted, origin), beforeRun }, live.creating.signal);
      ticket.settled();
      return body;
    }).finally(() => this.#running.delete(woken));
    this.#running.add(woken);
    return woken;
  }

  /** Cancels what is under way and waits for it. */
  async close(): Promise<void> {
    this.#closing.abort(new WarrenError("cancelled", "the engine was closed while the sandbox was being created"));
    await Promise.allSettled(this.#running);
  }

  #create(account: string, input: SandboxCreate, options: CallOptions): Promise<SandboxInfo> {
    return this.#cancellable(options, async (signal) => {
      const asked = parse(routes.create.input, input);
      const { templates, snapshots } = this.#parts;
      const saved = asked.snapshot === undefined ? null : await namedSnapshot(snapshots, account, asked.snapshot);
      const spec = resolve(asked, (name) => templates.defaults(name), saved, this.#parts.networks.facts);
      signal.throwIfAborted();
      const origin = await this.#open(account, spec, signal);
      using _hold = Symbol.dispose in origin ? origin : null;
      return await this.#make({ account, spec, origin, parentId: null, endsMs: null, began: options.began }, signal);
    });
  }

  async #make(wish: Wish, signal: AbortSignal): Promise<SandboxInfo> {
    signal.throwIfAborted();
    const { account, spec, origin } = wish;
    const mayPool = spec.detached === this.#options.detachedPool && isOfTemplate(wish);
    const need = () => ({
      vcpus: spec.cpu,
      memoryMib: mayPool && this.#pool.hasReady(origin) ? 0 : origin.workingSetMib,
    });
    // The sandbox exists from the instant it is granted.
    const grant = (ticket: Ticket) => this.#begin(wish, mayPool ? this.#pool.take(origin) : null, ticket);
    return await this.#bring(await this.#admitted(account, need, grant, signal), wish, signal);
  }

  async #cancellable<T>(options: CallOptions, job: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { signal: closing } = this.#closing;
    const signal = options.signal === undefined ? closing : AbortSignal.any([options.signal, closing]);
    try {
      return await job(signal);
    } catch (cause) {
      if (isWarrenError(cause) || !signal.aborted) throw asWarrenError(cause, "the sandbox could not be created");
      throw cancelled(cause);
    }
  }

  #refuseFull(): void {
    if (this.#opening + this.#admission.waiting < this.#options.queue) return;
    throw new WarrenError("queue_full", `${this.#options.queue} creates are already waiting on this host`);
  }

  async #open(account: string, spec: SandboxSpec, signal: AbortSignal): Promise<OpenTemplate | HeldPoint> {
    this.#refuseFull();
    this.#opening += 1;
    try {
      const { templates, snapshots } = this.#parts;
      if (spec.snapshotId !== null) return await snapshots.open(account, spec.snapshotId, signal);
      return await templates.open(sizeOf(spec), this.#options.onBake, signal);
    } finally {
      this.#opening -= 1;
    }
  }

  /** Waits for room, in turn; `grant` runs in the instant that there is some. */
  async #admitted<T>(
    account: string,
    need: () => { readonly vcpus: number; readonly memoryMib: number },
    grant: (ticket: Ticket) => T,
    signal: AbortSignal,
  ): Promise<T> {
    const { promise, resolve: granted, reject } = Promise.withResolvers<T>();
    const leave = this.#admission.enter(account, { need, grant: (ticket) => granted(grant(ticket)) });
    const stop = (why: unknown) => {
      leave();
      reject(why);
    };
    const { waitMs } = this.#options;
    const says = `no room for another sandbox on this host within ${waitMs / 1000} s`;
    const cancelTimer = this.#parts.clock.after(waitMs, () => stop(new WarrenError("create_timeout", says)));
    const onAbort = () => stop(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await promise;
    } finally {
      cancelTimer();
      signal.removeEventListener("abort", onAbort);
    }
  }

  #begin(wish: Wish, pooled: Pooled | null, ticket: Ticket): Granted {
    const { account, parentId } = wish;
    const { clock, host } = this.#parts;
    const spec = endingInTime(wish, clock.wallMs());
    const at = {
      wallMs: clock.wallMs(),
      cores: host.capacity().cores,
      ownerPid: process.pid,
      path: pooled?.path ?? ("none" as const),
      parentId,
    };
    const info = newInfo(pooled?.clone.id ?? sandboxId(), spec, at);
    wish.began?.(info.id, info); // before its first move: whoever books it asks first, and others after
    const live = this.#lifecycle.open(account, spec, info);
    if (spec.ttlSeconds !== null) this.#lifecycle.expireAfter(live, spec.ttlSeconds);
    return { live, pooled, ticket, grantedMs: clock.monotonicMs() };
  }

  async #bring(granted: Granted, wish: Wish, signal: AbortSignal): Promise<SandboxInfo> {
    const { origin } = wish;
    const { live, ticket } = granted;
    const onAbort = () => live.abandon(cancelled(signal.reason));
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      await this.#boot(granted, origin);
      if (signal.aborted) throw cancelled(signal.reason);
      ticket.settled();
      if (isOfTemplate(wish)) this.#pool.touch(origin);
      return live.info;
    } catch (cause) {
      await this.#lifecycle.end(live, "its create did not succeed");
      throw cause;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  async #boot(granted: Granted, template: OpenTemplate): Promise<void> {
    const { live, grantedMs } = granted;
    let body: AwakeClone;
    try {
      body = await bootClone(this.#parts, this.#order(granted, template), live.creating.signal);
    } catch (cause) {
      live.created.resolve();
      const error = live.creating.signal.aborted ? live.creating.signal.reason : cause;
      const failure = asWarrenError(error, `sandbox ${live.id} could not be started`);
      await this.#lifecycle.post(live, "bootFailed", failure.message);
      throw failure;
    }
    live.body = body;
    live.layers = body.origin.snapshot.layers;
    live.info = { ...live.info, createMs: this.#parts.clock.monotonicMs() - grantedMs };
    live.created.resolve();
    const verdict = await this.#lifecycle.post(live, "booted", null, body.resumedMs);
    if (verdict.kind !== "move") throw live.creating.signal.reason;
    watch(live, body, this.#lifecycle, this.#parts);
    if (live.spec.detached) body.vmm.letGo();
    await this.register(live, body);
  }

  #order({ live, pooled, ticket }: Granted, template: OpenTemplate): Order {
    const { detached } = live.spec;
    const { host, registry, clock, networks } = this.#parts;
    const { expiresAt } = live.info;
    const leftMs = expiresAt === null ? null : Math.max(0, Date.parse(expiresAt) - clock.wallMs());
    const deadlineNs = leftMs === null ? null : host.bootTimeNs() + BigInt(Math.ceil(leftMs * 1e6));
    return {
      id: live.id,
      template,
      life: { deadlineNs, detached },
      pooled,
      give: async () => {
        await registry.remove(live.id);
        ticket.give();
      },
      identified: ({ agent }) => networks.introduce(live, agent),
      started: async (clone, path) => {
        ticket.measure(() => clone.lease.memoryMib());
        live.info = { ...live.info, createPath: path };
        await networks.open(live, clone);
        // Were this process to end now, a detached clone would go on: nobody would know of it without its record. One that
        // wakes has its image until it runs, so without a record the next sweep ends it.
        if (detached && live.info.state === "creating") await this.register(live, clone);
      },
    };
  }

  /** Tells the home's other processes of it. @throws {WarrenError} `sandbox_lost` – it has ended meanwhile */
  async register(live: Live, clone: Pick<Clone, "vmm" | "origin">): Promise<void> {
    const { id } = live;
    await this.#parts.networks.refresh(live);
    await this.#parts.registry.put(recordOf(live, clone));
    const { state, reason } = live.info;
    if (state !== "stopping" && !isTerminal(live)) return;
    await this.#parts.registry.remove(id);
    throw new WarrenError("sandbox_lost", `sandbox ${id} ended as soon as it was made: ${reason}`);
  }
}

/** Only templates are kept ready: what stands on a snapshot would keep it from being removed. */
function isOfTemplate({ parentId, spec }: Wish): boolean {
  return parentId === null && spec.snapshotId === null;
}

/** With the time that it has left by now. */
function endingInTime({ spec, endsMs }: Wish, wallMs: number): SandboxSpec {
  if (endsMs === null) return spec;
  const leftSeconds = Math.max(0, endsMs - wallMs) / 1000;
  return { ...spec, ttlSeconds: Math.min(spec.ttlSeconds ?? leftSeconds, leftSeconds) };
}

function cancelled(cause: unknown): WarrenError {
  if (isWarrenError(cause)) return cause;
  return new WarrenError("cancelled", "the create was cancelled by its caller", { cause });
}
