/** Tries whether a jail can be made here: with warren-init itself as the program in it, which ends at once. */
import { chmodSync, copyFileSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { closeFd } from "../../../ffi/files.ts";
import { systemClock } from "../../base/clock.ts";
import { isWarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { partialOf } from "../home/publish.ts";
import { lockSlot, uidOf } from "../slots/slots.ts";
import { EXITS } from "./exits.ts";
import { jailInit } from "./init.ts";
import { type JailSpec, spawnJailed } from "./jail.ts";

interface Works {
  readonly tookMs: number;
  readonly sealedExec: boolean;
  /** Why the kernel writes down no end of it; null: it did. */
  readonly exitsMissing: string | null;
}

export type JailProbe =
  | ({ readonly kind: "works"; readonly tap: true } & Works)
  | ({ readonly kind: "works"; readonly tap: false; readonly tapWhy: string } & Works)
  | { readonly kind: "failed"; readonly why: string };

/** Some slot that nobody has, from the far end. */
function anySlot(): { readonly slot: number; readonly fd: number } {
  for (let slot = LIMITS.slots - 1; ; slot--) {
    const fd = lockSlot(slot);
    if (fd !== null) return { slot, fd };
  }
}

async function attempt(init: string, root: string, tap: JailSpec["tap"]): Promise<Works | string> {
  const { slot, fd } = anySlot();
  const startMs = systemClock.monotonicMs();
  try {
    const jailed = await spawnJailed({
      init,
      argv: ["/probe"],
      env: [],
      fds: [],
      jail: {
        uid: uidOf(slot),
        hostname: "probe",
        cgroupFds: [],
        slotFd: fd,
        netnsFd: null,
        deadlineNs: null,
        detached: false,
        exitsPath: join(root, EXITS),
      },
      root,
      devices: [],
      group: null,
      tap,
      rlimits: {},
    });
    const tookMs = systemClock.monotonicMs() - startMs;
    await jailed.kill();
    const { sealedExec, exitsMissing, exited } = jailed;
    const wrote = (await exited).end !== null;
    return { tookMs, sealedExec, exitsMissing: exitsMissing ?? (wrote ? null : "it wrote nothing") };
  } catch (error) {
    if (isWarrenError(error, "driver_failed")) return error.message;
    throw error;
  } finally {
    closeFd(fd);
  }
}

/** @param home where a small directory is made for it */
export async function probeJail(home: string): Promise<JailProbe> {
  let init: string;
  try {
    init = await jailInit(home);
  } catch (error) {
    if (isWarrenError(error)) return { kind: "failed", why: error.message };
    throw error;
  }
  const root = partialOf(join(home, "probe")); // a sweep finds it when this process is killed
  mkdirSync(root);
  try {
    chmodSync(root, 0o755); // the jail's uid has to enter it
    mkdirSync(join(root, "proc"));
    copyFileSync(init, join(root, "probe"));
    chmodSync(join(root, "probe"), 0o755);
    const full = await attempt(init, root, { name: "tap0", mac: new Uint8Array([2, 0, 0, 0, 0, 1]) });
    if (typeof full !== "string") return { kind: "works", ...full, tap: true };
    const bare = await attempt(init, root, null);
    return typeof bare === "string"
      ? { kind: "failed", why: bare }
      : { kind: "works", ...bare, tap: false, tapWhy: full };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}
