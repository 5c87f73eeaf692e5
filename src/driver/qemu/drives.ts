/**
 * Media of the placeholder drives, over QMP. A drive's raw node stays with its device, which no snapshot could lose; what
 * lies under the node is exchanged while the guest runs (`blockdev-reopen`), and `block_resize` raises the interrupt at
 * which the guest reads the new size.
 *
 * QEMU refuses a read-only node under a device that was made writable. A medium that must not be written is therefore the
 * backing file of an overlay: the host's descriptor of it cannot write, whatever becomes of the VMM.
 */
import type { Clock } from "../../base/clock.ts";
import { WarrenError } from "../../errors.ts";
import { createMemory } from "../../host/memory.ts";
import { LIMITS } from "../../limits.ts";
import type { Medium } from "../driver.ts";
import { FIRST_VOLUME_SET, fdsetPath } from "./argv.ts";

/** What a drive is changed through. */
export interface Monitor {
  command(name: string, args?: Readonly<Record<string, unknown>>): Promise<unknown>;
  /** Makes a descriptor what a descriptor set holds; null for nothing. */
  put(set: number, fd: number | null): Promise<void>;
  readonly clock: Clock;
  closeFd(fd: number): void;
}

/** One sector: what the drive was baked with. */
const EMPTY_BYTES = 512;
/** How often QEMU is asked whether an overlay is made; it takes 2 ms. */
const LOOK_MS = 2;

/** Names of the nodes that may lie under drive `n`, in the order in which they can be taken away. */
function nodesOf(drive: number): {
  readonly overlay: string;
  readonly scratch: string;
  readonly medium: string;
  readonly nothing: string;
} {
  return { overlay: `v${drive}o`, scratch: `v${drive}s`, medium: `v${drive}m`, nothing: `v${drive}n` };
}

/** How large a file under a drive may become: an overlay's tables take a little more than what it is over. */
export function overlayBytes(sizeBytes: number): number {
  return Math.ceil((sizeBytes / 2 ** 20) * 1.01 + 1) * 2 ** 20;
}

/** Puts the medium in; when it throws the drive is empty. @throws {WarrenError} `driver_failed` */
export async function insert(monitor: Monitor, drive: number, medium: Medium): Promise<void> {
  const nodes = nodesOf(drive);
  try {
    await addFile(monitor, drive, nodes.medium, medium.fd, medium.scratchFd !== null);
    let top = nodes.medium;
    if (medium.scratchFd !== null) {
      await addFile(monitor, drive, nodes.scratch, medium.scratchFd, false);
      await format(monitor, drive, nodes.scratch, medium.sizeBytes);
      top = nodes.overlay;
      const overlay = { driver: "qcow2", file: nodes.scratch, backing: nodes.medium, discard: "unmap" };
      await monitor.command("blockdev-add", { ...overlay, "node-name": top });
    }
    await reopen(monitor, drive, top);
    await grow(monitor, drive, medium.sizeBytes);
  } catch (cause) {
    await eject(monitor, drive);
    throw cause;
  }
}

export async function grow(monitor: Monitor, drive: number, sizeBytes: number): Promise<void> {
  await monitor.command("block_resize", { "node-name": `v${drive}`, size: sizeBytes });
}

/**
 * Takes out what is in, if anything. The node that stands for no medium cannot be resized, so the guest hears of the end
 * through a memory file of one sector.
 */
export async function eject(monitor: Monitor, drive: number): Promise<void> {
  const nodes = nodesOf(drive);
  const sector = createMemory("warren-no-medium", EMPTY_BYTES);
  try {
    await addFile(monitor, drive, nodes.nothing, sector, false);
    await reopen(monitor, drive, nodes.nothing);
    await grow(monitor, drive, EMPTY_BYTES);
  } finally {
    monitor.closeFd(sector);
  }
  await reopen(monitor, drive, `v${drive}f`);
  const there = nodeNames(await monitor.command("query-named-block-nodes", { flat: true }));
  for (const name of [nodes.nothing, nodes.overlay, nodes.scratch, nodes.medium]) {
    if (there.has(name)) await monitor.command("blockdev-del", { "node-name": name });
  }
}

/** A file as a node; QEMU keeps a descriptor of its own, so that none is left in the set. */
async function addFile(monitor: Monitor, drive: number, name: string, fd: number, readOnly: boolean): Promise<void> {
  const set = FIRST_VOLUME_SET + drive;
  await monitor.put(set, fd);
  try {
    await monitor.command("blockdev-add", {
      ...{ driver: "file", "node-name": name, filename: fdsetPath(set), "read-only": readOnly },
      ...{ locking: "off", aio: "threads", discard: "unmap" },
    });
  } finally {
    await monitor.put(set, null);
  }
}

async function reopen(monitor: Monitor, drive: number, file: string): Promise<void> {
  const raw = { driver: "raw", "node-name": `v${drive}`, file, discard: "unmap" };
  await monitor.command("blockdev-reopen", { options: [raw] });
}

/** An overlay without any data. @throws {WarrenError} `driver_failed` */
async function format(monitor: Monitor, drive: number, file: string, size: number): Promise<void> {
  const job = `v${drive}`;
  await monitor.command("blockdev-create", { "job-id": job, options: { driver: "qcow2", file, size } });
  const untilMs = monitor.clock.monotonicMs() + LIMITS.qmpCommandMs;
  for (;;) {
    const { status, error } = jobOf(await monitor.command("query-jobs"), job);
    if (status === "concluded") {
      await monitor.command("job-dismiss", { id: job });
      if (error === null) return;
      throw new WarrenError("driver_failed", `the VMM could not make an overlay: ${error.slice(0, 200)}`);
    }
    if (monitor.clock.monotonicMs() > untilMs) throw new WarrenError("driver_failed", "the VMM makes no overlay");
    await monitor.clock.sleep(LOOK_MS);
  }
}

function jobOf(answer: unknown, id: string): { readonly status: string; readonly error: string | null } {
  const jobs = Array.isArray(answer) ? (answer as { id?: unknown; status?: unknown; error?: unknown }[]) : [];
  const job = jobs.find((one) => one?.id === id);
  const status = typeof job?.status === "string" ? job.status : "unknown";
  return { status, error: typeof job?.error === "string" ? job.error : null };
}

function nodeNames(answer: unknown): Set<unknown> {
  return new Set(Array.isArray(answer) ? answer.map((node: { "node-name"?: unknown }) => node?.["node-name"]) : []);
}
