/**
 * A driver without a VMM, for fast tests: each machine is a {@link FakeGuest} that speaks real frames. It keeps books on
 * what lives, and its hooks can fail, delay or corrupt every step.
 */
import type { Clock } from "../base/clock.ts";
import { WarrenError } from "../errors.ts";
import type { Captured, Driver, Link, Medium, VmExit, Vmm, VmPlan, VmRef } from "./driver.ts";
import { FakeGuest, type GuestFault, type GuestStep } from "./fake/guest.ts";
import { pipe } from "./fake/pipe.ts";

export type { GuestFault, GuestStep } from "./fake/guest.ts";
export type VmmStep =
  | "prepare"
  | "load"
  | "resume"
  | "pause"
  | "connect"
  | "save"
  | "capture"
  | "insert"
  | "grow"
  | "eject";

export interface FakeHooks {
  /** Before a step of the VMM; may throw, or take its time. */
  readonly vmm?: (step: VmmStep, id: string) => void | Promise<void>;
  /** Before a step of the guest; what it does instead of answering. */
  readonly guest?: (step: GuestStep, id: string) => GuestFault | Promise<GuestFault>;
}

export interface FakeDriverParts {
  readonly clock: Clock;
  readonly bootTimeNs: () => bigint;
}

let nextPid = 2;

export class FakeVmm implements Vmm {
  readonly pid = nextPid++;
  readonly plan: VmPlan;
  readonly ref: VmRef;
  readonly exited: Promise<VmExit>;
  readonly guest: FakeGuest;
  deadlineNs: bigint | null = null;
  /** How each capture was asked for. */
  readonly captures: ("last" | "base")[] = [];
  /** What is in its drives. */
  readonly media = new Map<number, Medium>();
  readonly #driver: FakeDriver;
  readonly #exit: (exit: VmExit) => void;
  readonly #ports = new Map<number, { readonly host: Link; readonly guest: Link }>();
  #over = false;
  #loaded = false;
  #cancelDeadline: () => void = () => undefined;

  constructor(driver: FakeDriver, plan: VmPlan) {
    const { promise, resolve } = Promise.withResolvers<VmExit>();
    this.plan = plan;
    this.ref = { id: plan.id, pid: this.pid, startTicks: this.pid, hostBootId: "fake", socketDir: plan.socketDir };
    this.exited = promise;
    this.guest = new FakeGuest(driver.parts.clock, {
      at: (step) => driver.hooks.guest?.(step, plan.id) ?? "answer",
      exit: () => this.die({ reason: "vmm_exit", code: 0 }),
    });
    this.#driver = driver;
    this.#exit = resolve;
    this.guest.pause();
    this.setDeadline(plan.jail.deadlineNs);
  }

  async connect(index: number, signal?: AbortSignal): Promise<Link> {
    await this.#step("connect", signal);
    if (this.#ports.has(index)) throw new WarrenError("guest_unresponsive", `agent port ${index} is in use`);
    const { host, guest } = pipe();
    this.#ports.set(index, { host, guest });
    const served = this.guest.serve(guest).finally(() => this.#ports.delete(index));
    served.catch(() => host.close()); // a host that breaks the protocol loses its port
    return host;
  }

  async load(signal?: AbortSignal): Promise<void> {
    await this.#step("load", signal);
    if (this.#loaded) throw new WarrenError("driver_failed", "the fake VMM was loaded twice");
    this.#loaded = true;
  }

  async resume(signal?: AbortSignal): Promise<void> {
    await this.#step("resume", signal);
    if (!this.#loaded) throw new WarrenError("driver_failed", "the fake VMM has nothing to resume");
    this.guest.resume();
  }

  async pause(signal?: AbortSignal): Promise<void> {
    await this.#step("pause", signal);
    this.guest.pause();
  }

  async save(): Promise<void> {
    await this.#step("save");
  }

  async capture(_: number, since: "last" | "base" = "last"): Promise<Captured> {
    this.captures.push(since);
    await this.#step("capture");
    return { runs: [{ offset: 0, length: 4096 }], error: null };
  }

  async insert(drive: number, medium: Medium): Promise<void> {
    await this.#step("insert");
    if (this.media.has(drive)) throw new WarrenError("driver_failed", `drive ${drive} of the fake VMM is not empty`);
    this.media.set(drive, medium);
  }

  async grow(drive: number, sizeBytes: number): Promise<void> {
    await this.#step("grow");
    const medium = this.media.get(drive);
    if (medium === undefined) throw new WarrenError("driver_failed", `drive ${drive} of the fake VMM is empty`);
    this.media.set(drive, { ...medium, sizeBytes });
  }

  async eject(drive: number): Promise<void> {
    await this.#step("eject");
    this.media.delete(drive);
  }

  setDeadline(deadlineNs: bigint | null): void {
    this.deadlineNs = deadlineNs;
    this.#cancelDeadline();
    if (deadlineNs === null) return;
    const { clock, bootTimeNs } = this.#driver.parts;
    const delayMs = Number(deadlineNs - bootTimeNs()) / 1e6;
    this.#cancelDeadline = clock.after(delayMs, () => this.die({ reason: "deadline" }), { background: true });
  }

  letGo(): void {}

  async kill(): Promise<void> {
    this.die({ reason: "killed", signal: 9 });
  }

  /** Ends the machine for a reason of the test's. */
  die(exit: Partial<VmExit>): void {
    if (this.#over) return;
    this.#over = true;
    this.#cancelDeadline();
    this.#driver.machines.delete(this.plan.id);
    this.guest.stop();
    this.#exit({ reason: "unknown", code: null, signal: null, stderr: "", end: null, ...exit });
  }

  /** Puts raw bytes on agent port 0, as a hostile guest may; false when nobody listens there. */
  async speak(bytes: Uint8Array): Promise<boolean> {
    const port = this.#ports.get(0);
    if (port === undefined) return false;
    return port.guest.write(bytes).then(
      () => true,
      () => false, // the host hung up meanwhile
    );
  }

  /** The agent hangs up on one port while its machine goes on. */
  hangUp(index = 0): void {
    this.#ports.get(index)?.guest.close();
  }

  async #step(step: VmmStep, signal?: AbortSignal): Promise<void> {
    await this.#driver.hooks.vmm?.(step, this.plan.id);
    signal?.throwIfAborted();
    if (this.#over) throw new WarrenError("driver_failed", `the fake VMM ended before ${step}`);
  }
}

export class FakeDriver implements Driver {
  readonly name = "fake";
  readonly parts: FakeDriverParts;
  /** Replaceable at any time. */
  hooks: FakeHooks;
  /** Machines that live, by id. */
  readonly machines = new Map<string, FakeVmm>();
  /** Machines ever made. */
  made = 0;

  constructor(parts: FakeDriverParts, hooks: FakeHooks = {}) {
    this.parts = parts;
    this.hooks = hooks;
  }

  async identity(): Promise<Readonly<Record<string, string>>> {
    return { driver: this.name };
  }

  async prepare(plan: VmPlan, signal?: AbortSignal): Promise<Vmm> {
    await this.hooks.vmm?.("prepare", plan.id);
    signal?.throwIfAborted();
    if (this.machines.has(plan.id)) throw new WarrenError("driver_failed", `there is a machine ${plan.id} already`);
    const vmm = new FakeVmm(this, plan);
    this.machines.set(plan.id, vmm);
    this.made += 1;
    return vmm;
  }

  async adopt(ref: VmRef): Promise<Vmm | null> {
    const vmm = this.machines.get(ref.id);
    return vmm?.pid === ref.pid ? vmm : null;
  }
}
