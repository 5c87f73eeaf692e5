/** Mounting what is in a drive, by commands that root runs in the guest. Their output is the guest's word: bounded, never parsed for decisions. */
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import type { GuestAgent } from "../agent.ts";
import { FLUSH, GROW, MOUNT, UNMOUNT } from "./scripts.ts";

/** A placeholder drive with a medium in it, as the guest finds it. */
export interface Drive {
  readonly index: number;
  readonly sizeBytes: number;
}

interface Said {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const SECTOR_BYTES = 512;
/** Of what a guest says: enough for the links of some hundred processes. */
const SAID_BYTES = 256 * 1024;

/**
 * @param grows fits the file system to the drive, which has become larger
 * @throws {WarrenError} `invalid_request` – the mount point cannot be made; `driver_failed` – it cannot be mounted
 */
export async function mountDrive(
  agent: GuestAgent,
  drive: Drive,
  at: { readonly mount: string; readonly readOnly: boolean; readonly grows: boolean },
): Promise<void> {
  const options = at.readOnly ? "ro" : "discard";
  const said = await sh(agent, MOUNT, [...named(drive), at.mount, options, at.grows ? "grow" : ""]);
  if (said.code === 0) return;
  if (said.code === 4) {
    throw new WarrenError("invalid_request", `mount: the guest cannot make ${at.mount}: ${line(said)}`, {
      details: { field: "mount", got: at.mount },
    });
  }
  throw new WarrenError("driver_failed", `the guest could not mount it at ${at.mount}: ${line(said)}`);
}

/** @throws {WarrenError} `volume_in_use` – a process of the guest's uses it, named in `details.pids` */
export async function unmountDrive(agent: GuestAgent, mount: string): Promise<void> {
  const said = await sh(agent, UNMOUNT, [mount]);
  if (said.code === 0) return;
  const pids = usersOf(said.stdout, mount);
  if (said.code === 7 && /busy/.test(said.stderr)) {
    const by = pids.length === 0 ? "a process" : `process ${pids.slice(0, 10).join(", ")}`;
    throw new WarrenError("volume_in_use", `${mount} is in use by ${by} in the sandbox: end it first`, {
      details: { mount, pids },
    });
  }
  throw new WarrenError("driver_failed", `the guest could not unmount ${mount}: ${line(said)}`);
}

/** Fits a mounted file system to its drive. @throws {WarrenError} `unsupported` – the guest has no resize2fs, or it failed */
export async function growDrive(agent: GuestAgent, drive: Drive): Promise<void> {
  const said = await sh(agent, GROW, named(drive));
  if (said.code === 0) return;
  const says = `the volume is larger, its file system not yet: ${line(said)}`;
  throw new WarrenError("unsupported", `${says}; it is fitted when it is next attached for writing`);
}

/** Puts what was written below these mount points on their disks. @throws {WarrenError} `driver_failed`, or the signal's reason */
export async function flushDrives(agent: GuestAgent, mounts: readonly string[], signal: AbortSignal): Promise<void> {
  const said = await sh(agent, FLUSH, mounts, signal);
  if (said.code !== 0) throw new WarrenError("driver_failed", `the guest could not flush its volumes: ${line(said)}`);
}

function named({ index, sizeBytes }: Drive): string[] {
  return [`volume${index}`, String(sizeBytes / SECTOR_BYTES)];
}

/** Pids with a working directory, root, program or open file below `mount`, from `ls -l` of /proc. Pure. */
export function usersOf(listing: string, mount: string): number[] {
  const pids = new Set<number>();
  let folder = "";
  for (const text of listing.split("\n")) {
    if (text.endsWith(":")) folder = text.slice(0, -1);
    const [left = "", target] = text.split(" -> ");
    if (target === undefined || (target !== mount && !target.startsWith(`${mount}/`))) continue;
    const path = left.includes("/proc/") ? left.slice(left.indexOf("/proc/")) : folder;
    const pid = /^\/proc\/(\d+)(\/|$)/.exec(path)?.[1];
    if (pid !== undefined) pids.add(Number(pid));
  }
  return [...pids].sort((a, b) => a - b);
}

function line({ stderr, code }: Said): string {
  const last = stderr.trim().split("\n")[0] ?? "";
  return last === "" ? `exit code ${code}` : last.slice(0, 300);
}

async function sh(agent: GuestAgent, script: string, args: readonly string[], signal?: AbortSignal): Promise<Said> {
  const parts = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
  const request = {
    ...{ argv: ["/bin/sh", "-c", script, "sh", ...args], cwd: "/", outputLimitBytes: SAID_BYTES },
    timeoutSeconds: LIMITS.mountSeconds,
  };
  for await (const event of agent.exec(request, signal)) {
    if (event.kind === "stdout" || event.kind === "stderr") parts[event.kind].push(event.bytes);
    if (event.kind !== "exit") continue;
    const text = (all: Uint8Array[]) => new TextDecoder().decode(Buffer.concat(all));
    if (event.timedOut) throw new WarrenError("guest_unresponsive", "the guest took too long to mount or unmount");
    return { code: event.exitCode, stdout: text(parts.stdout), stderr: text(parts.stderr) };
  }
  throw new WarrenError("guest_protocol", "the guest did not say how the mount ended");
}
