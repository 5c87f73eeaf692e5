/**
 * One create from admission to a confirmed identity, over whichever of the three paths is open: a ready clone, a prepared
 * VMM, or nothing prepared. It ends with a clone that may run a user's code, or with nothing left.
 */

import type { VmExit, Vmm } from "../../driver/driver.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import { soon } from "../life/ends.ts";
import type { OpenTemplate } from "../templates.ts";
import {
  type AwakeClone,
  type Clone,
  type CloneParts,
  endedTooEarly,
  identify,
  type Life,
  prepareClone,
  undoAll,
  wakeClone,
  whileRunning,
} from "./clone.ts";
import type { Pooled } from "./pool.ts";

export interface Order {
  readonly id: string;
  readonly template: OpenTemplate;
  readonly life: Life;
  readonly pooled: Pooled | null;
  /** Gives the admission back; runs after everything else of the clone is gone. */
  readonly give: () => void;
  /** The VMM exists: whoever has to know of it before the guest runs is told here, and adds its undo to the clone's. */
  readonly started: (clone: Clone, path: Pooled["path"] | "none") => Promise<void>;
  /** Called when its state is loaded, before the guest runs. */
  readonly beforeRun?: () => Promise<void>;
  /** It is a machine of its own now, and no user's code has run in it. */
  readonly identified: (clone: AwakeClone) => Promise<void>;
}

/** @throws what the failing step threw; all that was taken, the admission included, is then given back. */
export async function bootClone(parts: CloneParts, order: Order, signal: AbortSignal): Promise<AwakeClone> {
  const undo = new AsyncDisposableStack();
  undo.defer(order.give);
  const { pooled } = order;
  if (pooled !== null) {
    try {
      const awake = await finish(parts, order, pooled, signal);
      const whole = undo.move();
      whole.use(awake.undo);
      return { ...awake, undo: whole };
    } catch (cause) {
      if (signal.aborted) {
        await undoAll(undo, parts.log, order.id);
        throw cause;
      }
      // It waited for a while and may have died of that; a fresh one tells whether the fault is deeper.
      parts.log.warn("a pooled clone could not be used", { id: order.id, cause: String(cause) });
    }
  }
  const clone = await prepareClone(parts, order.id, order.template, order.life, undo, signal);
  return finish(parts, order, { path: "none", clone }, signal);
}

async function finish(
  parts: CloneParts,
  order: Order,
  from: Pooled | { readonly path: "none"; readonly clone: Clone },
  signal: AbortSignal,
): Promise<AwakeClone> {
  const { clone, path } = from;
  try {
    signal.throwIfAborted();
    const { deadlineNs, detached } = order.life;
    if (path !== "none" && (detached || deadlineNs !== null)) clone.vmm.setDeadline(deadlineNs); // it has one of the pool's
    await order.started(clone, path);
    const awake =
      path === "ready"
        ? await resumeReady(parts, clone, signal)
        : await wakeClone(parts, clone, signal, order.beforeRun);
    await identify(parts, awake, signal);
    await order.identified(awake);
    signal.throwIfAborted();
    return awake;
  } catch (cause) {
    const why = isWarrenError(cause, "sandbox_lost") ? await whyLost(parts, clone.vmm, cause) : cause;
    await undoAll(clone.undo, parts.log, order.id);
    throw why;
  }
}

/** A guest that hangs up usually is its VMM's end, heard before the VMM's own word; that word is the better one. */
async function whyLost({ clock }: CloneParts, vmm: Vmm, cause: WarrenError): Promise<WarrenError> {
  const ended: VmExit[] = [];
  await soon(
    vmm.exited.then((exit) => ended.push(exit)),
    clock,
  );
  const [exit] = ended;
  if (exit !== undefined) return endedTooEarly(exit);
  return new WarrenError("guest_unresponsive", "the guest's agent hung up before the sandbox was ready", { cause });
}

async function resumeReady(parts: CloneParts, clone: AwakeClone, signal: AbortSignal): Promise<AwakeClone> {
  await clone.vmm.resume(whileRunning(clone.vmm, signal));
  return { ...clone, resumedMs: parts.clock.monotonicMs() };
}
