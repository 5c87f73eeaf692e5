/**
 * Sandboxes that sleep on disk: their image is all there is of them until they wake. It is used up before the guest runs
 * again, so a disk is never resumed older than its memory.
 */
import type { SandboxInfo } from "../../contract/routes/sandboxes.ts";
import { WarrenError } from "../../errors.ts";
import { type AwakeClone, asWarrenError, type SandboxParts, undoAll } from "../create/clone.ts";
import type { Creates } from "../create/creates.ts";
import type { EngineOptions } from "../create/options.ts";
import { isTerminal, type Lifecycle } from "../lifecycle.ts";
import type { Live } from "../live.ts";
import { restored, writtenOf } from "../network/policies.ts";
import { notRunning } from "../reached.ts";
import type { Registry } from "../registry.ts";
import { axisNow, type SnapshotMeta, type SnapshotStore, type TakenImage } from "../snapshots.ts";
import { watch } from "../watch.ts";
import { takeCheckpoint } from "./checkpoint.ts";
import { bodyOf, type Forks } from "./forks.ts";

export interface HibernationParts extends SandboxParts {
  readonly snapshots: SnapshotStore;
  readonly registry: Registry;
}

export class Hibernation {
  readonly #parts: HibernationParts;
  readonly #lifecycle: Lifecycle;
  readonly #creates: Creates;
  readonly #forks: Forks;

  readonly #admitWake: NonNullable<EngineOptions["admitWake"]>;

  constructor(
    parts: HibernationParts,
    lifecycle: Lifecycle,
    creates: Creates,
    forks: Forks,
    admitWake: EngineOptions["admitWake"] = () => Promise.resolve(),
  ) {
    this.#admitWake = admitWake;
    this.#parts = parts;
    this.#lifecycle = lifecycle;
    this.#creates = creates;
    this.#forks = forks;
  }

  /** Twice is fine. @throws {WarrenError} `storage_exhausted`, …; the sandbox then goes on as it was */
  hibernate(live: Live): Promise<void> {
    return this.#forks.alone(live, async () => {
      if (live.info.state === "hibernated") return;
      const running = live.info.state === "running";
      const body = bodyOf(live, "running", "paused");
      // It stands still from somewhere after this on, and its machine may end before its image is written.
      const askedMs = this.#parts.clock.monotonicMs();
      const point = await takeCheckpoint(this.#parts, live, body, { staysPaused: true });
      try {
        await this.#parts.snapshots.saveImage(
          point.origin,
          this.#meta(live, body, { pauseMs: point.pauseMs, askedMs }),
        );
      } catch (cause) {
        if (running) await body.vmm.resume();
        throw cause;
      } finally {
        point.release();
      }
      await this.#leave(live, body, askedMs);
    });
  }

  /** Any number of callers wake it once; of one that runs this is no error. */
  wake(live: Live, signal?: AbortSignal): Promise<void> {
    return this.#forks.alone(live, async () => {
      if (live.info.state === "running" || live.info.state === "paused") return;
      if (live.info.state !== "hibernated") throw notRunning(live.info);
      await this.#admitWake(live.account, live.info);
      signal?.throwIfAborted();
      const image = await this.#parts.snapshots.takeImage(live.id);
      if (image === null) {
        throw new WarrenError("sandbox_lost", `the image of sandbox ${live.id} is gone`, { details: { id: live.id } });
      }
      await this.#rise(live, image, signal);
    });
  }

  /**
   * One that hibernates on this host and is no other process's: it is this engine's from here on. Null when there is none.
   */
  async adopt(account: string, id: string): Promise<Live | null> {
    const saved = await this.#parts.snapshots.findImage(id);
    if (saved === null || saved.meta.account !== account || saved.meta.sandbox === null) return null;
    await this.#endRemains(id);
    const known = this.#lifecycle.get(id); // another call may have been quicker
    if (known !== undefined && !isTerminal(known)) return known;
    const { sandbox, env, workdir, template } = saved.meta;
    const { cpu, memoryMb, detached, metadata, snapshotId, createdAt, expiresAt } = sandbox;
    const ttlSeconds = expiresAt === null ? null : (Date.parse(expiresAt) - Date.parse(createdAt)) / 1000;
    const leftMs = expiresAt === null ? null : Date.parse(expiresAt) - this.#parts.clock.wallMs();
    if (leftMs !== null && leftMs <= 0) {
      await this.#parts.snapshots.removeImage(id); // its time ran out while nobody was there to see it
      return null;
    }
    const size = { template, cpu, memoryMib: memoryMb };
    const policy = restored(saved.meta, this.#parts.networks.facts);
    const idle = sandbox.idle ?? null;
    const spec = { ...size, ttlSeconds, idle, detached, metadata, env, workdir, snapshotId, policy, anyPolicy: false };
    const axisMs = axisNow(saved.meta.axis, this.#parts);
    const live = this.#lifecycle.adopt(account, spec, { ...sandbox, state: "hibernated" }, axisMs);
    live.dropImage = () => this.#parts.snapshots.removeImage(id);
    live.created.resolve();
    if (leftMs !== null) this.#lifecycle.expireAfter(live, leftMs / 1000, "its time to live ran out");
    return live;
  }

  /** One of this engine's that another process has woken is that one's. */
  async isElsewhere({ id, info }: Live): Promise<boolean> {
    if (info.state !== "hibernated" || (await this.#parts.snapshots.findImage(id)) !== null) return false;
    return (await this.#parts.registry.get(id)) !== null;
  }

  /** Hibernated sandboxes of the home; those of this engine too. */
  async list(account: string): Promise<SandboxInfo[]> {
    const found: SandboxInfo[] = [];
    for (const { meta } of await this.#parts.snapshots.listImages(account)) {
      const { sandbox } = meta;
      if (sandbox === null) continue;
      const ended = sandbox.expiresAt !== null && Date.parse(sandbox.expiresAt) <= this.#parts.clock.wallMs();
      if (!ended) found.push({ ...sandbox, state: "hibernated" });
      else if (this.#lifecycle.get(sandbox.id) === undefined) await this.#parts.snapshots.removeImage(sandbox.id);
    }
    return found;
  }

  /** The machine that an image is of, when its process ended before it could end it: it stands still. */
  async #endRemains(id: string): Promise<void> {
    const { registry, driver } = this.#parts;
    const record = await registry.get(id);
    if (record !== null) await (await driver.adopt(record.ref))?.kill();
    await registry.remove(id); // one that was being woken has no record, but a lease
  }

  /** From here on the image is what there is of it. */
  async #leave(live: Live, body: AwakeClone, askedMs: number): Promise<void> {
    if (live.borrowed) {
      await body.vmm.kill(); // its maker, when there still is one, sees it closed by another process
      await this.#parts.registry.remove(live.id);
      return;
    }
    const verdict = await this.#lifecycle.post(live, "hibernated", null, askedMs);
    if (verdict.kind !== "move") {
      await this.#parts.snapshots.removeImage(live.id); // it was ended while it was being written
      throw notRunning(live.info);
    }
    live.begin();
    live.body = null;
    live.layers = [];
    live.dropImage = () => this.#parts.snapshots.removeImage(live.id);
    await undoAll(body.undo, this.#parts.log, live.id);
    live.created.resolve();
  }

  async #rise(live: Live, image: TakenImage, signal: AbortSignal | undefined): Promise<void> {
    live.begin();
    let used = false;
    const consume = async (): Promise<void> => {
      await image.consume();
      live.dropImage = null;
      used = true;
    };
    try {
      using point = await image.open(signal);
      const body = await this.#creates.wake(live, point, consume, signal);
      live.body = body;
      live.layers = body.origin.snapshot.layers;
      live.created.resolve();
      const verdict = await this.#lifecycle.post(live, "woken", null, body.resumedMs);
      if (verdict.kind !== "move") throw notRunning(live.info);
      live.info = { ...live.info, woken: true };
      watch(live, body, this.#lifecycle, this.#parts);
      await this.#creates.register(live, body);
    } catch (cause) {
      live.created.resolve();
      const failure = asWarrenError(cause, `sandbox ${live.id} could not be woken`);
      if (!used) await image.putBack();
      else if (live.body === null) await this.#lifecycle.post(live, "bootFailed", failure.message);
      throw failure;
    }
  }

  #meta(
    live: Live,
    { vmm }: AwakeClone,
    { pauseMs, askedMs }: { readonly pauseMs: number; readonly askedMs: number },
  ): SnapshotMeta {
    const { id, account, spec, axisMs } = live;
    const { clock } = this.#parts;
    const { hostBootId } = vmm.ref;
    return {
      axis: { axisMs, hostBootId, atMs: axisMs + askedMs },
      id,
      account,
      name: null,
      sandboxId: live.id,
      template: spec.template,
      metadata: spec.metadata,
      env: spec.env,
      workdir: spec.workdir,
      ...writtenOf(live.policy),
      pauseMs,
      createdAt: new Date(clock.wallMs()).toISOString(),
      sandbox: live.info,
      parentSnapshotId: spec.snapshotId,
    };
  }
}
