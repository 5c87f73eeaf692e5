/**
 * One instant of a live sandbox: its memory since the last one, its devices and its disk, taken inside one pause. What comes
 * of it is something to restore clones from, as a template is. The sandbox stands on the new layer from then on.
 */
import { nonce } from "../../base/id.ts";
import type { Vmm } from "../../driver/driver.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import type { GuestAgent } from "../../guest/agent.ts";
import type { Checkpoint, Host, Layer, OwnSnapshot } from "../../host/host.ts";
import { LIMITS } from "../../limits.ts";
import type { AwakeClone, CloneParts } from "../create/clone.ts";
import type { Live } from "../live.ts";
import { sizeOf } from "../plan.ts";
import type { OpenTemplate } from "../templates.ts";
import { refuseAttached } from "../volumes/volumes.ts";

/** A freeze that another host's greeting ended is tried again so often in all. */
const FREEZE_TRIES = 3;

export interface ForkPoint {
  readonly origin: OpenTemplate;
  /** Milliseconds for which the guest stood still; of a paused one, those of the taking. */
  readonly pauseMs: number;
  /** Bytes of memory in the new layer. */
  readonly changedBytes: number;
  /** Gives up the caller's hold; clones that stand on it keep theirs. */
  release(): void;
}

/**
 * Takes a checkpoint; the guest runs again when this returns, unless it was paused before, or `staysPaused`, which is for
 * one that ends with it: its file systems are then not held still, as memory and disk stay together. One at a time per sandbox.
 * @throws {WarrenError} `wrong_state` – it has volumes; `storage_exhausted`, `capacity_exhausted`, `driver_failed`, `guest_unresponsive`; the sandbox goes on
 */
export async function takeCheckpoint(
  parts: CloneParts,
  live: Live,
  body: AwakeClone,
  { signal, staysPaused = false }: { readonly signal?: AbortSignal | undefined; readonly staysPaused?: boolean } = {},
): Promise<ForkPoint> {
  refuseAttached(live);
  if (live.layers.length >= LIMITS.layerDepth && !live.borrowed) await merge(parts.host, live, body);
  const running = live.info.state === "running";
  if (staysPaused) return attempt(parts, live, body, { pause: running, resume: false });
  if (!running) return attempt(parts, live, body, { pause: false, resume: false });
  for (let left = FREEZE_TRIES; ; left--) {
    await freeze(body.agent, signal);
    let kept = false;
    let taken: ForkPoint;
    try {
      taken = await attempt(parts, live, body, { pause: true, resume: true });
    } finally {
      // Whatever went wrong: a guest must not stay frozen. One that is gone says so to whoever calls it next.
      kept = await body.agent.thaw().catch(() => false);
    }
    if (kept) return taken;
    taken.release();
    // Another host has greeted the guest meanwhile, so its disk was written to: the copy may be half of something.
    if (left <= 1) throw new WarrenError("wrong_state", `the file systems of sandbox ${live.id} did not stay frozen`);
  }
}

interface Standing {
  readonly pause: boolean;
  readonly resume: boolean;
}

/** One that was taken frozen, or whose last fork was cut short, may still be letting go, which is waited for. */
async function freeze(agent: GuestAgent, signal: AbortSignal | undefined): Promise<void> {
  for (let left = FREEZE_TRIES; ; left--) {
    try {
      await agent.freeze(signal);
      return;
    } catch (cause) {
      if (left <= 1 || !isWarrenError(cause, "wrong_state") || cause.details["errno"] !== "EALREADY") throw cause;
      await agent.thaw(signal);
    }
  }
}

async function attempt(parts: CloneParts, live: Live, body: AwakeClone, guest: Standing): Promise<ForkPoint> {
  const { host } = parts;
  const diskFd = body.lease.disk.roFd;
  using files = host.checkpoint({ memoryMib: live.spec.memoryMib, diskFd });
  await host.flushDisk(diskFd);
  const taken = await whilePaused(parts, body.vmm, guest, () => take(live, body, files));
  return { ...taken, ...shared(live, body, files.snapshot(live.layers)) };
}

async function whilePaused<T extends object>(
  { clock }: CloneParts,
  vmm: Vmm,
  guest: Standing,
  job: () => Promise<T>,
): Promise<T & { readonly pauseMs: number }> {
  const startMs = clock.monotonicMs();
  if (guest.pause) await vmm.pause();
  try {
    const result = await job();
    if (guest.resume) await vmm.resume();
    return { ...result, pauseMs: clock.monotonicMs() - startMs };
  } catch (cause) {
    if (guest.pause) await vmm.resume().catch(() => undefined); // of a VMM that is gone, which `cause` tells
    throw cause;
  }
}

async function take(live: Live, body: AwakeClone, files: Checkpoint): Promise<{ readonly changedBytes: number }> {
  const { vmm } = body;
  const kept = keptBy(body);
  // What others captured in between is not known here; and files of which little is in use any more are not to pile up.
  const all = live.borrowed || kept.unknown || kept.bytes > live.spec.memoryMib * 2 ** 20;
  kept.unknown = true;
  const { runs, error } = await vmm.capture(files.memoryFd, all ? "base" : "last");
  kept.unknown = all && error !== null;
  const layer = files.layer(runs);
  if (live.body !== body) {
    layer.release();
    throw new WarrenError("sandbox_lost", `sandbox ${live.id} ended while it was being taken`);
  }
  // From here on the guest stands on it, whatever becomes of the rest.
  const changedBytes = bytesOf(layer);
  body.lease.carry(changedBytes);
  if (all && error === null) {
    live.layers = live.layers.slice(0, 1);
    kept.keepOnly([]);
  }
  kept.add(layer);
  kept.bytes = all ? 0 : kept.bytes + changedBytes;
  live.layers = [...live.layers, layer];
  if (error !== null) throw error;
  await vmm.save(files.stateFd);
  files.takeDisk();
  return { changedBytes };
}

/**
 * Layers above the lowest as one: else each fork of a fork would make maps and descriptors more. One that is larger than all
 * those above it together stays apart: what a session once read in is not copied for every few forks of it.
 */
async function merge(host: Host, live: Live, body: AwakeClone): Promise<void> {
  const [base, first, ...rest] = live.layers;
  if (base === undefined || first === undefined) return;
  const apart = rest.length > 1 && bytesOf(first) > rest.reduce((sum, layer) => sum + bytesOf(layer), 0);
  const merged = await host.mergeLayers(live.spec.memoryMib, apart ? rest : [first, ...rest]);
  live.layers = apart ? [base, first, merged] : [base, merged];
  const kept = keptBy(body);
  kept.add(merged);
  kept.keepOnly(live.layers); // the VMM has mapped what it stands on of the others, and needs no one to hold them
}

function bytesOf({ runs }: Layer): number {
  return runs.reduce((sum, { length }) => sum + length, 0);
}

/** Layers that a sandbox itself holds, beside those of what it was restored from. */
class Kept {
  readonly #layers = new Set<Layer>();
  /** Captured since its VMM stood on one layer above the lowest. */
  bytes = 0;
  /** A capture was not answered: the guest may stand on what nobody here has. The next one takes it all. */
  unknown = false;

  add(layer: Layer): void {
    this.#layers.add(layer);
  }

  keepOnly(some: readonly Layer[]): void {
    for (const layer of this.#layers) {
      if (some.includes(layer)) continue;
      this.#layers.delete(layer);
      layer.release();
    }
  }
}

const kept = new WeakMap<AwakeClone, Kept>();

function keptBy(body: AwakeClone): Kept {
  const found = kept.get(body);
  if (found !== undefined) return found;
  const made = new Kept();
  kept.set(body, made);
  body.undo.defer(() => made.keepOnly([]));
  return made;
}

function shared(live: Live, body: AwakeClone, snapshot: OwnSnapshot): Pick<ForkPoint, "origin" | "release"> {
  const { machine, workingSetMib, warm, base } = body.origin;
  let users = 0;
  const hold = (): (() => void) => {
    users += 1;
    let holds = true;
    return () => {
      if (!holds) return;
      holds = false;
      users -= 1;
      if (users === 0) snapshot.release();
    };
  };
  const digest = `${live.id} ${nonce()}`;
  const origin = {
    size: sizeOf(live.spec),
    machine,
    snapshot,
    digest,
    workingSetMib,
    warm,
    hold,
    ...(base && { base }),
  };
  return { origin, release: hold() };
}
