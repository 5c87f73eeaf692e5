/** One QEMU process: its monitor, its sockets, its end. The effectful half; the argument list is made in argv.ts. */
import { closeSync, fstatSync, openSync } from "node:fs";
import type { Clock } from "../../base/clock.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import { raiseFileSize } from "../../host/jail/file-size.ts";
import type { Jailed } from "../../host/jail/jail.ts";
import type { Captured, Link, Medium, VmExit, Vmm, VmRef } from "../driver.ts";
import { connectUnix } from "../socket.ts";
import { fdsetPath, SAVED_SET } from "./argv.ts";
import { capture, place } from "./control.ts";
import { agentSocket, QMP_SOCKET } from "./descriptors.ts";
import { eject, grow, insert, type Monitor, overlayBytes } from "./drives.ts";
import { Qmp } from "./qmp.ts";

/** What QEMU answers to query-status, as far as it matters here. */
function statusOf(answer: unknown): string {
  const status = (answer as { status?: unknown } | null)?.status;
  return typeof status === "string" ? status : "unknown";
}

/** The number of a set's only descriptor in the answer to query-fdsets. @throws {WarrenError} `driver_failed` */
function fdInSet(answer: unknown, set: number): number {
  const sets = Array.isArray(answer) ? (answer as { "fdset-id"?: unknown; fds?: { fd?: unknown }[] }[]) : [];
  const fd = sets.find((one) => one?.["fdset-id"] === set)?.fds?.[0]?.fd;
  if (typeof fd !== "number") throw new WarrenError("driver_failed", `the VMM has no descriptor set ${set}`);
  return fd;
}

export class QemuVmm implements Vmm {
  readonly pid: number;
  readonly ref: VmRef;
  readonly #jailed: Jailed;
  readonly #clock: Clock;
  /** Descriptor number of the device state inside the VMM; null for an adopted one. */
  readonly #stateFd: number | null;
  #qmp: Promise<Qmp> | null = null;
  #mayHaveRun: boolean;

  constructor(jailed: Jailed, ref: VmRef, clock: Clock, stateFd: number | null) {
    this.pid = jailed.pid;
    this.ref = ref;
    this.#jailed = jailed;
    this.#clock = clock;
    this.#stateFd = stateFd;
    this.#mayHaveRun = stateFd === null;
  }

  /** Asked for, not kept: an adopted jail is watched only once somebody wants to know. */
  get exited(): Promise<VmExit> {
    return this.#jailed.exited;
  }

  /** Resolves when the monitor takes commands. @throws {WarrenError} `driver_failed` – with what QEMU said when it ended. */
  async ready(signal?: AbortSignal): Promise<void> {
    await this.#monitor(signal);
  }

  connect(index: number, signal?: AbortSignal): Promise<Link> {
    signal?.throwIfAborted();
    return connectUnix(this.ref.socketDir, agentSocket(index));
  }

  async load(signal?: AbortSignal): Promise<void> {
    const qmp = await this.#monitor(signal);
    if (this.#stateFd === null) throw new WarrenError("unsupported", "an adopted VMM takes no new state");
    // Sent together: QEMU answers the second when the load is over, so nothing is polled in the ordinary case.
    const incoming = this.#explained(qmp.command("migrate-incoming", { uri: `fd:${this.#stateFd}` }));
    incoming.catch(() => undefined); // awaited below, unless the query fails first and says the same
    let status = "inmigrate";
    while (status === "inmigrate") {
      signal?.throwIfAborted();
      status = statusOf(await this.#explained(qmp.command("query-status")));
    }
    await incoming;
    if (status !== "paused" && status !== "prelaunch") {
      throw new WarrenError("driver_failed", `the VMM is ${status} after loading its state, where paused was expected`);
    }
  }

  async resume(signal?: AbortSignal): Promise<void> {
    const qmp = await this.#monitor(signal);
    this.#mayHaveRun = true;
    await this.#explained(qmp.command("cont"));
  }

  async pause(signal?: AbortSignal): Promise<void> {
    const qmp = await this.#monitor(signal);
    await this.#explained(qmp.command("stop"));
  }

  async save(stateFd: number, signal?: AbortSignal): Promise<void> {
    const qmp = await this.#monitor(signal);
    await this.#put(qmp, SAVED_SET, stateFd);
    // Despite its name it needs no Xen: it writes the devices without RAM, which is mapped and needs no writing.
    await this.#explained(qmp.command("xen-save-devices-state", { filename: fdsetPath(SAVED_SET), live: false }));
  }

  async capture(memoryFd: number, since: "last" | "base" = "last"): Promise<Captured> {
    const { size } = fstatSync(memoryFd);
    return await this.#explained(capture({ socketDir: this.ref.socketDir, clock: this.#clock }, memoryFd, size, since));
  }

  async insert(drive: number, medium: Medium): Promise<void> {
    await raiseFileSize(this.pid, overlayBytes(medium.sizeBytes));
    await this.#explained(insert(await this.#drives(), drive, medium));
  }

  async grow(drive: number, sizeBytes: number): Promise<void> {
    await raiseFileSize(this.pid, overlayBytes(sizeBytes));
    await this.#explained(grow(await this.#drives(), drive, sizeBytes));
  }

  async eject(drive: number): Promise<void> {
    await this.#explained(eject(await this.#drives(), drive));
  }

  async #drives(): Promise<Monitor> {
    const qmp = await this.#monitor();
    return {
      command: (name, args) => qmp.command(name, args),
      put: async (set, fd) => {
        const given = fd ?? openSync("/dev/null", "r+");
        try {
          await this.#put(qmp, set, given);
        } finally {
          if (fd === null) closeSync(given);
        }
      },
      clock: this.#clock,
      closeFd: closeSync,
    };
  }

  /** Makes a descriptor what QEMU finds in one of its sets. QEMU moved those it was started with, and says to where. */
  async #put(qmp: Qmp, set: number, fd: number): Promise<void> {
    const number = fdInSet(await this.#explained(qmp.command("query-fdsets")), set);
    await place({ socketDir: this.ref.socketDir, clock: this.#clock }, number, fd);
  }

  setDeadline(deadlineNs: bigint | null): void {
    this.#jailed.setDeadline(deadlineNs);
  }

  letGo(): void {
    const open = this.#qmp;
    this.#qmp = null;
    void open?.then(
      (qmp) => qmp.close(),
      () => undefined, // whoever asked for it was told
    );
  }

  async kill(): Promise<void> {
    await this.#jailed.kill();
    (await this.#qmp?.catch(() => null))?.close(); // a monitor that never opened needs no closing
  }

  /** Opened at the first command: an adopted VMM serves its maker's monitor until that goes. */
  #monitor(signal?: AbortSignal): Promise<Qmp> {
    signal?.throwIfAborted();
    this.#qmp ??= this.#explained(this.#open());
    return this.#qmp;
  }

  async #open(): Promise<Qmp> {
    const qmp = new Qmp(await connectUnix(this.ref.socketDir, QMP_SOCKET), this.#clock);
    await qmp.ready();
    await qmp.command("qmp_capabilities");
    return qmp;
  }

  /** QEMU's own last line, as long as it cannot hold a byte that a guest chose. */
  #lastWord({ stderr }: VmExit): string {
    const last = this.#mayHaveRun ? undefined : stderr.trim().split("\n").at(-1);
    return last ? `: ${last.slice(0, 500)}` : "";
  }

  /** A monitor that closed usually means that QEMU said why on stderr and ended: that is what the caller needs to read. */
  async #explained<T>(promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } catch (error) {
      const exit = await Promise.race([this.exited, this.#clock.sleep(200).then(() => null)]);
      if (exit === null || !isWarrenError(error)) throw error;
      throw new WarrenError("driver_failed", `the VMM ended by itself (${exit.reason})${this.#lastWord(exit)}`, {
        details: { reason: exit.reason, code: exit.code, signal: exit.signal, stderr: exit.stderr },
        cause: error,
      });
    }
  }
}
