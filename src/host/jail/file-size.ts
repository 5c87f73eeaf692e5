/** How large a jailed VMM's files may grow: it cannot say so itself, and who is root need not have the capability to. */
import { readFileSync } from "node:fs";
import { WarrenError } from "../../errors.ts";
import { run } from "../run.ts";

/**
 * Raises the soft limit of the VMM in a jail, within its hard one; one that is higher stays, as other files of the VMM, its
 * disk among them, need it. Done by a short-lived process of the VMM's own uid: that
 * needs no CAP_SYS_RESOURCE, which root of a container often lacks.
 * @throws {WarrenError} `sandbox_lost` – the VMM has ended; `host_unsupported` – it cannot be raised here
 */
export async function raiseFileSize(jailPid: number, bytes: number): Promise<void> {
  const { vmm, uid, limitBytes } = vmmOf(jailPid);
  if (limitBytes >= bytes) return;
  const as = ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups"] as const;
  const done = await run([...as, "prlimit", `--pid=${vmm}`, `--fsize=${bytes}:`], { deadlineMs: 10_000 });
  if (done.exitCode === 0) return;
  throw new WarrenError("host_unsupported", `a volume needs a larger file limit: ${done.stderr.trim().slice(0, 200)}`);
}

interface Limited {
  readonly vmm: string;
  readonly uid: string;
  /** Infinity for none. */
  readonly limitBytes: number;
}

/** The only child of a jail's first process, and whose it is: uid and gid are one number. */
function vmmOf(jailPid: number): Limited {
  try {
    const vmm = readFileSync(`/proc/${jailPid}/task/${jailPid}/children`, "utf8").trim();
    const uid = /^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${vmm}/status`, "utf8"))?.[1];
    if (uid === undefined || uid === "0") throw new Error(`process ${vmm} is not a VMM's`);
    const soft = /^Max file size +(\d+|unlimited) /m.exec(readFileSync(`/proc/${vmm}/limits`, "utf8"))?.[1];
    if (soft === undefined) throw new Error(`process ${vmm} has no limit of its files' size`);
    return { vmm, uid, limitBytes: soft === "unlimited" ? Number.POSITIVE_INFINITY : Number(soft) };
  } catch (cause) {
    throw new WarrenError("sandbox_lost", "the sandbox is gone: its VMM has ended", { cause });
  }
}
