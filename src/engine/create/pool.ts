/**
 * Clones made before anyone asks: prepared ones (a VMM process, no guest memory) for templates in use, and by choice ready
 * ones (restored, warmed, paused). A clone leaves the pool once and never comes back. Filling happens when no create waits;
 * prepared ones decay to none when their template is not used.
 */
import { sandboxId } from "../../base/id.ts";
import { LIMITS } from "../../limits.ts";
import type { OpenTemplate } from "../templates.ts";
import type { Admission, Ticket } from "./admit.ts";
import {
  type AwakeClone,
  type Clone,
  identify,
  prepareClone,
  type SandboxParts,
  undoAll,
  wakeClone,
  whileRunning,
} from "./clone.ts";

export interface PoolOptions {
  readonly prepared: number;
  readonly preparedIdleMs: number;
  readonly ready: number;
  /** Clones outlive this process by no more than `LIMITS.pooledLifeMs`. */
  readonly detached: boolean;
  /** From now on a ready clone holds so much memory; 0 when it does no more, or is somebody's. */
  readonly held?: (id: string, memoryMib: number) => void;
}

export type Pooled =
  | { readonly path: "prepared"; readonly clone: Clone }
  | { readonly path: "ready"; readonly clone: AwakeClone };

interface Shelf {
  readonly template: OpenTemplate;
  readonly prepared: Set<Clone>;
  readonly ready: Set<AwakeClone>;
  /** Used within the idle time; only then it is filled. */
  hot: boolean;
  cancelDecay: () => void;
}

const KINDS = ["ready", "prepared"] as const;
/** First Python under emulation after so many: 110 ms after one, 62 ms after two, 70 ms after three (medians of 25). */
const REHEARSALS = 2;
const REHEARSAL_SECONDS = 30;
/**
 * Whoever has just got a sandbox has the host's cores for its first call, which takes 40 ms under emulation, and up to 130 ms
 * beside a refill on two cores.
 */
export const REFILL_AFTER_MS = 200;

export class Pool {
  readonly #parts: SandboxParts;
  readonly #admission: Admission;
  readonly #options: PoolOptions;
  readonly #shelves = new Map<string, Shelf>();
  readonly #closing = new AbortController();
  readonly #undoing = new Set<Promise<void>>();
  #filling: Promise<void> | null = null;
  #cancelRefill: (() => void) | null = null;

  constructor(parts: SandboxParts, admission: Admission, options: PoolOptions) {
    this.#parts = parts;
    this.#admission = admission;
    this.#options = options;
  }

  /** True when `take` would give a clone whose memory is accounted for already. */
  hasReady(template: OpenTemplate): boolean {
    return (this.#shelves.get(template.digest)?.ready.size ?? 0) > 0;
  }

  /** Clones on the shelves, all templates together. */
  get size(): number {
    let count = 0;
    for (const shelf of this.#shelves.values()) count += shelf.prepared.size + shelf.ready.size;
    return count;
  }

  /** The most advanced clone there is; it is the caller's from here on. */
  take(template: OpenTemplate): Pooled | null {
    const shelf = this.#shelves.get(template.digest);
    for (const clone of shelf?.ready ?? []) {
      shelf?.ready.delete(clone);
      this.#options.held?.(clone.id, 0);
      return { path: "ready", clone };
    }
    for (const clone of shelf?.prepared ?? []) {
      shelf?.prepared.delete(clone);
      return { path: "prepared", clone };
    }
    return null;
  }

  /** Says that a template was used: it is kept filled until it has been idle for long enough. */
  touch(template: OpenTemplate): void {
    const shelf = this.#shelf(template);
    shelf.hot = true;
    shelf.cancelDecay();
    const decay = () => {
      shelf.hot = false;
      for (const clone of shelf.prepared) this.#drop(clone, "prepared");
      shelf.prepared.clear();
    };
    shelf.cancelDecay = this.#parts.clock.after(this.#options.preparedIdleMs, decay, { background: true });
    this.refill();
  }

  /** Starts filling in the background a moment later, unless creates are under way then. */
  refill(): void {
    const start = (): void => {
      this.#cancelRefill = null;
      if (this.#filling === null) void this.#start(() => this.#admission.quiet);
    };
    this.#cancelRefill ??= this.#parts.clock.after(REFILL_AFTER_MS, start, { background: true });
  }

  /** Fills a template's shelf now. @returns how many clones it then holds. */
  async fill(template: OpenTemplate): Promise<number> {
    this.touch(template);
    while (this.#filling !== null) await this.#filling;
    await this.#start(() => true);
    const shelf = this.#shelf(template);
    return shelf.prepared.size + shelf.ready.size;
  }

  /** One filling at a time; closing waits for it. */
  #start(may: () => boolean): Promise<void> {
    const filling = this.#fill(may).finally(() => {
      this.#filling = null;
    });
    this.#filling = filling;
    return filling;
  }

  /** Gives back the memory of one clone that nobody has asked for. */
  shed(): void {
    for (const kind of KINDS) {
      for (const shelf of this.#shelves.values()) {
        for (const clone of shelf[kind]) {
          shelf[kind].delete(clone as AwakeClone);
          this.#drop(clone, kind);
          return;
        }
      }
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error("the pool is closed"));
    this.#cancelRefill?.();
    await this.#filling;
    for (const shelf of this.#shelves.values()) {
      shelf.cancelDecay();
      for (const kind of KINDS) {
        for (const clone of shelf[kind]) this.#drop(clone, kind);
        shelf[kind].clear();
      }
    }
    await Promise.all(this.#undoing);
  }

  #shelf(template: OpenTemplate): Shelf {
    const known = this.#shelves.get(template.digest);
    if (known !== undefined) return known;
    const shelf: Shelf = {
      template,
      prepared: new Set(),
      ready: new Set(),
      hot: false,
      cancelDecay: () => undefined,
    };
    this.#shelves.set(template.digest, shelf);
    return shelf;
  }

  #drop(clone: Clone, kind: (typeof KINDS)[number]): void {
    if (kind === "ready") this.#options.held?.(clone.id, 0);
    const undoing = undoAll(clone.undo, this.#parts.log, clone.id).then(() => {
      this.#undoing.delete(undoing);
    });
    this.#undoing.add(undoing);
  }

  /** One clone at a time while `may()` holds; a failure ends it until the next use. */
  async #fill(may: () => boolean): Promise<void> {
    while (may() && !this.#closing.signal.aborted) {
      const next = this.#wanted();
      if (next === null) return;
      const [shelf, kind] = next;
      const ticket = this.#admission.spare(kind === "ready" ? shelf.template.workingSetMib : LIMITS.preparedMib);
      if (ticket === null) return;
      try {
        await this.#make(shelf, kind, ticket);
      } catch (cause) {
        if (!this.#closing.signal.aborted) {
          this.#parts.log.warn("the pool could not be filled", { kind, cause: String(cause) });
        }
        return;
      }
    }
  }

  #wanted(): readonly [Shelf, (typeof KINDS)[number]] | null {
    let ready = 0;
    for (const shelf of this.#shelves.values()) ready += shelf.ready.size;
    for (const shelf of this.#shelves.values()) {
      if (!shelf.hot) continue;
      if (shelf.ready.size < this.#options.ready && ready < LIMITS.readyMax) return [shelf, "ready"];
      if (shelf.prepared.size < this.#options.prepared) return [shelf, "prepared"];
    }
    return null;
  }

  async #make(shelf: Shelf, kind: (typeof KINDS)[number], ticket: Ticket): Promise<void> {
    const { detached } = this.#options;
    const life = { deadlineNs: detached ? this.#deadlineNs() : null, detached };
    const { signal } = this.#closing;
    const undo = new AsyncDisposableStack();
    undo.defer(() => ticket.give());
    const clone = await prepareClone(this.#parts, sandboxId(), shelf.template, life, undo, signal);
    ticket.measure(() => clone.lease.memoryMib());
    try {
      const made = kind === "ready" ? await this.#rehearse(clone, shelf.template, signal) : clone;
      const ahead = detached ? await this.#parts.networks.ahead(clone) : null;
      signal.throwIfAborted();
      this.#keep(shelf, kind, { ...made, ahead });
    } catch (cause) {
      await undoAll(clone.undo, this.#parts.log, clone.id);
      throw cause;
    }
  }

  /** Lets the clone do what its user will see first, so that its pages are there and its code is translated; then stops it. */
  async #rehearse(clone: Clone, template: OpenTemplate, signal: AbortSignal): Promise<AwakeClone> {
    const awake = await wakeClone(this.#parts, clone, signal);
    const alive = whileRunning(clone.vmm, signal);
    await awake.agent.ping(alive);
    for (let time = 0; time < REHEARSALS; time++) {
      await identify(this.#parts, awake, signal); // its user gives it another one
      if (template.warm) await runPython(awake, alive);
      await awake.agent.sync({ light: true }, alive); // else it is paused in the middle of making the next child
    }
    await clone.vmm.pause(alive);
    return awake;
  }

  #deadlineNs(): bigint {
    return this.#parts.host.bootTimeNs() + BigInt(LIMITS.pooledLifeMs) * 1_000_000n;
  }

  /** Says again and again that its maker is there. Whoever takes it gives it a deadline of its own. */
  #renew(clone: Clone, isWaiting: () => boolean): void {
    let cancel = (): void => undefined;
    const arm = (): void => {
      cancel = this.#parts.clock.after(LIMITS.pooledLifeMs / 2, again, { background: true });
    };
    const again = (): void => {
      if (!isWaiting()) return;
      clone.vmm.setDeadline(this.#deadlineNs());
      arm();
    };
    clone.undo.defer(() => cancel());
    arm();
  }

  #keep(shelf: Shelf, kind: (typeof KINDS)[number], clone: Clone): void {
    const place: Set<Clone> = shelf[kind] as Set<Clone>;
    place.add(clone);
    if (kind === "ready") this.#options.held?.(clone.id, shelf.template.size.memoryMib);
    if (this.#options.detached) this.#renew(clone, () => place.has(clone));
    void clone.vmm.exited.then(() => {
      if (place.delete(clone)) this.#drop(clone, kind);
    });
  }
}

/** Runs the least there is in the warm interpreter, and leaves no file. */
async function runPython({ agent }: AwakeClone, signal: AbortSignal): Promise<void> {
  const path = "/tmp/.rehearsal.py";
  const run = agent.exec({ python: { path, code: "print(6*7)\n" }, timeoutSeconds: REHEARSAL_SECONDS }, signal);
  for await (const event of run) if (event.kind === "exit") break;
  await agent.removeFile({ path }, signal);
}
