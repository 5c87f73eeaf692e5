/** `warren clean`: everything that a home holds and everything outside of it that is ours, gone; refuses while sandboxes live. */
import { existsSync, readdirSync, realpathSync, rmSync } from "node:fs";
import { join } from "node:path";
import { hasCode, NativeError } from "../../../ffi/native.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { removeRootShare } from "../net/root.ts";
import { refuseWithoutRoot } from "../rights.ts";
import { Cgroups } from "../slots/cgroups.ts";
import { killOccupants, occupants } from "../slots/occupants.ts";
import { type Entry, Slots } from "../slots/slots.ts";
import { type SweepGround, sweep, sweepSlot } from "../slots/sweep.ts";
import { foldersOf } from "./data.ts";
import { locked } from "./disk.ts";
import { unmountImage } from "./image.ts";

export interface CleanOptions {
  readonly home: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Kill sandboxes that live instead of refusing. */
  readonly force: boolean;
}

/** The launcher's own folder: it may be there before the home was ever opened. */
const LAUNCHERS = "bun";

/** Slots of this home that someone still holds, after what is dead has been swept. */
async function living(ground: SweepGround): Promise<Entry[]> {
  await sweep(ground);
  return ground.slots.entries();
}

async function killAll(ground: SweepGround, entries: readonly Entry[]): Promise<void> {
  const until = ground.clock.monotonicMs() + LIMITS.killMs;
  // Whoever made them may still run and hold their slots; it is enough that nothing runs in them.
  let left = entries;
  while (left.length > 0 && ground.clock.monotonicMs() < until) {
    for (const { slot } of left) killOccupants(ground.cgroups, slot);
    await ground.clock.sleep(10);
    left = left.filter(({ slot }) => occupants(ground.cgroups, slot).length > 0);
  }
  for (const entry of entries) sweepSlot(ground, entry);
}

/** This host's rules about sandboxes; those of another home need them while there are any. */
function removeNetwork(log: Log): void {
  try {
    if (!removeRootShare()) log.info("the host's rules about sandboxes stay: there are some of another home", {});
  } catch (error) {
    if (!(error instanceof NativeError)) throw error;
    log.debug("this kernel has no rules to remove", { says: error.message });
  }
}

function unmount(home: string): void {
  try {
    unmountImage(home);
  } catch (error) {
    if (!hasCode(error, "EBUSY")) throw error;
    throw new WarrenError("wrong_state", `${join(home, "data")} is in use by another process; end it and try again`, {
      cause: error,
    });
  }
}

/**
 * Removes a home with all it holds, and empty control groups.
 * @returns how many sandboxes were killed
 * @throws {WarrenError} `wrong_state` – sandboxes live and `force` is not set, or another process has data open;
 * `permission_denied` – not root; `invalid_request` – the folder is no home of ours
 */
export async function removeAll(options: CleanOptions): Promise<{ readonly killed: number }> {
  const { home, clock, log, force } = options;
  if (!existsSync(home)) return { killed: 0 };
  refuseWithoutRoot();
  const names = readdirSync(home);
  const wasOpened = names.includes("slots") && names.includes("run");
  if (!wasOpened && names.some((name) => name !== LAUNCHERS)) {
    throw new WarrenError("invalid_request", `${home} holds other things than warren's: it is not removed`);
  }
  const cgroups = Cgroups.open();
  let killed = 0;
  if (wasOpened) {
    const data = foldersOf(realpathSync(home));
    const ground = { data, cgroups, clock, log, slots: new Slots(data.slots) };
    const alive = await living(ground);
    if (alive.length > 0 && !force) {
      const says = `${alive.length} sandboxes live or are being made; end them first, or use --force`;
      throw new WarrenError("wrong_state", says, { details: { sandboxes: alive.map((entry) => entry.id) } });
    }
    killed = alive.length;
    await killAll(ground, alive);
    await locked(join(home, "data.lock"), clock, async () => unmount(data.home));
  }
  rmSync(home, { recursive: true, force: true });
  cgroups.removeParents();
  removeNetwork(log);
  return { killed };
}
