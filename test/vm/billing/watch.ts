/**
 * Whoever survives: follows every machine that a witness has noted, by a pidfd of its VMM, looked at every 2 ms, so that its
 * end is known to lie between two readings of CLOCK_MONOTONIC, whoever killed it.
 */
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { closeFd } from "../../../ffi/files.ts";
import { hasEnded, openPid } from "../../../ffi/process.ts";
import { systemClock } from "../../../src/base/clock.ts";
import { hostClock } from "../../../src/host/slots/host-clock.ts";
import { startTicksOf } from "../../../src/host/slots/process-name.ts";
import type { Mark } from "./witness.ts";

const LOOK_MS = 2;

/** One VMM of a sandbox, which may have had another before. */
export interface Machine {
  readonly id: string;
  readonly jail: number;
  readonly startTicks: number;
  readonly socketDir: string;
  readonly marks: Mark[];
  /** Null when it had ended before it could be looked at. */
  readonly vmm: number | null;
  readonly pidfd: number | null;
  /** It lived then: CLOCK_MONOTONIC, milliseconds. */
  aliveMs: number;
  /** It had ended by then; null while it lives. */
  goneMs: number | null;
}

export class Watch implements AsyncDisposable {
  readonly path: string;
  readonly machines: Machine[] = [];
  /** Sandbox → its axis of time. */
  readonly axes = new Map<string, number>();
  /** Sandbox → when somebody asked for an end or a rest that was not refused. */
  readonly asked = new Map<string, number[]>();
  /** Somebody asked these to hibernate: they stood still for that while they were charged as running. */
  readonly slept = new Set<string>();
  /** Of these, the kernel's word on an end was lost. */
  readonly blind = new Set<string>();
  /** When a server was killed, alone or with all that it made. */
  readonly crashes: number[] = [];
  readonly #fd: number;
  readonly #byJail = new Map<string, Machine>();
  readonly #looking: Promise<void>;
  #text = "";
  #isOver = false;

  constructor(path: string) {
    this.path = path;
    this.#fd = openSync(path, "a+", 0o600);
    this.#looking = this.#lookOn();
  }

  living(): Machine[] {
    return this.machines.filter(({ goneMs }) => goneMs === null);
  }

  of(id: string): Machine[] {
    return this.machines.filter((machine) => machine.id === id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await this.#looking;
    for (const { pidfd, goneMs } of this.machines) if (pidfd !== null && goneMs === null) closeFd(pidfd);
    closeSync(this.#fd);
  }

  async #lookOn(): Promise<void> {
    while (!this.#isOver) {
      this.#read();
      for (const machine of this.machines) if (machine.goneMs === null) this.#look(machine);
      await systemClock.sleep(LOOK_MS);
    }
  }

  #look(machine: Machine): void {
    const beforeMs = hostClock.monotonicMs();
    if (machine.pidfd !== null && !hasEnded(machine.pidfd)) {
      machine.aliveMs = beforeMs;
      return;
    }
    machine.goneMs = hostClock.monotonicMs();
    if (machine.pidfd !== null) closeFd(machine.pidfd);
  }

  #read(): void {
    const bytes = Buffer.alloc(65_536);
    for (;;) {
      const got = readSync(this.#fd, bytes, 0, bytes.length, null);
      if (got === 0) return;
      const lines = (this.#text + bytes.toString("utf8", 0, got)).split("\n");
      this.#text = lines.pop() ?? "";
      for (const line of lines) this.#noted(JSON.parse(line) as Mark);
    }
  }

  #noted(mark: Mark): void {
    const { id, jail, startTicks, socketDir, axisMs } = mark;
    if (axisMs !== null) this.axes.set(id, axisMs);
    const key = `${jail} ${startTicks}`;
    const known = this.#byJail.get(key);
    if (known !== undefined) {
      known.marks.push(mark);
      return;
    }
    const vmm = vmmOf(jail, startTicks);
    const pidfd = vmm === null ? null : openPid(vmm);
    const isIt = pidfd !== null && vmmOf(jail, startTicks) === vmm;
    if (pidfd !== null && !isIt) closeFd(pidfd);
    const machine: Machine = {
      ...{ id, jail, startTicks, socketDir, vmm, marks: [mark], aliveMs: mark.atMs, goneMs: null },
      pidfd: isIt ? pidfd : null,
    };
    this.#byJail.set(key, machine);
    this.machines.push(machine);
  }
}

/** The only child of a jail's first process; null when either has ended. */
function vmmOf(jail: number, startTicks: number): number | null {
  try {
    const pid = Number(readFileSync(`/proc/${jail}/task/${jail}/children`, "utf8").trim());
    return pid > 0 && startTicksOf(jail) === startTicks && startTicksOf(pid) !== null ? pid : null;
  } catch {
    return null; // gone
  }
}
