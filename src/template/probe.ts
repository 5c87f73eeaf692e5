/**
 * Which acceleration this host really has: a guest is booted under KVM against a deadline, since /dev/kvm may be there and
 * yet unable to run a stock kernel. The answer is kept with the data, for this host boot and VMM build.
 */
import { closeSync, constants, openSync, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, release } from "node:os";
import { join } from "node:path";
import type { Acceleration } from "../driver/driver.ts";
import { WarrenError } from "../errors.ts";
import { GuestAgent } from "../guest/agent.ts";
import { LIMITS } from "../limits.ts";
import { type BakeTools, bootPlan, commandLine, memoryOf } from "./boot.ts";
import { digestOf } from "./manifest.ts";

export interface AccelerationFacts extends Acceleration {
  /** Why not KVM, or that it works; for people. */
  readonly says: string;
}

const PROBE_MIB = 256;

/** Boots the agent once under KVM; null when it answered, else why it did not. */
async function tryKvm(
  tools: BakeTools,
  dataDir: string,
  parts: { vmlinux: string; initrd: string },
): Promise<string | null> {
  const dir = await mkdtemp(join(dataDir, "probe-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  const late = new AbortController();
  const { signal } = late;
  stack.defer(tools.clock.after(LIMITS.kvmProbeMs, () => late.abort()));
  try {
    const disk = join(dir, "disk");
    await Bun.write(disk, new Uint8Array(4096));
    const memoryFd = await memoryOf(stack, null, PROBE_MIB * 1024 * 1024);
    const diskFd = openSync(disk, constants.O_RDONLY);
    stack.defer(() => closeSync(diskFd));
    const machine = { cpu: 1, memoryMib: PROBE_MIB, accel: { kind: "kvm" } as const };
    const plan = await bootPlan(tools, stack, {
      machine,
      memoryFd,
      diskFd,
      ...parts,
      commandLine: `${commandLine({ accel: "kvm", tscKhz: 0 })} warren.diskless`,
    });
    const vmm = await tools.driver.prepare(plan, signal);
    stack.defer(() => vmm.kill());
    await vmm.resume(signal);
    const agent = await GuestAgent.connect(await vmm.connect(0, signal), { clock: tools.clock, signal });
    agent.close();
    return null;
  } catch (error) {
    if (signal.aborted) return `a probe guest did not start under KVM within ${LIMITS.kvmProbeMs / 1000} s`;
    return `a probe guest failed under KVM: ${whyOf(error)}`;
  }
}

/** The VMM's own last line says most, for instance that it may not open /dev/kvm. */
function whyOf(error: unknown): string {
  const stderr = error instanceof WarrenError ? error.details["stderr"] : undefined;
  const last = typeof stderr === "string" ? stderr.trim().split("\n").at(-1) : undefined;
  return last || (error instanceof Error ? error.message : String(error));
}

function hasKvm(): boolean {
  try {
    return statSync("/dev/kvm").isCharacterDevice();
  } catch {
    return false; // no such device: the ordinary case on a host without virtualisation
  }
}

/** Why KVM cannot be used here, or null; from the kept answer when there is one. `again` believes no kept refusal. */
async function whyNoKvm(
  tools: BakeTools,
  dataDir: string,
  again: boolean,
  parts: () => Promise<{ vmlinux: string; initrd: string }>,
): Promise<string | null> {
  if (!hasKvm()) return "there is no /dev/kvm";
  const identity = await tools.driver.identity();
  const { mode, gid } = statSync("/dev/kvm"); // an answer "may not open it" must not outlive its reason
  const key = digestOf([identity, release(), cpus()[0]?.model ?? "", mode, gid, LIMITS.kvmProbeMs]).slice(0, 16);
  const file = Bun.file(join(dataDir, `kvm-${key}.json`));
  if (await file.exists()) {
    const kept = ((await file.json()) as { readonly why: string | null }).why;
    if (kept === null || !again) return kept;
  }
  const why = await tryKvm(tools, dataDir, await parts());
  await Bun.write(file, JSON.stringify({ why }));
  return why;
}

/**
 * The acceleration to use. "auto" takes KVM where a probe guest boots under it; "tcg" is taken as it is.
 * @throws {WarrenError} `host_unsupported` – "kvm" is wanted and no guest boots under it
 */
export async function acceleration(
  tools: BakeTools,
  dataDir: string,
  wanted: "auto" | "kvm" | "tcg",
  parts: () => Promise<{ vmlinux: string; initrd: string }>,
): Promise<AccelerationFacts> {
  if (wanted === "tcg") return { kind: "tcg", says: "tcg by configuration" };
  const why = await whyNoKvm(tools, dataDir, wanted === "kvm", parts);
  if (why === null) return { kind: "kvm", says: "KVM: a probe guest booted" };
  if (wanted === "auto") return { kind: "tcg", says: `${why}: software emulation (TCG)` };
  const remedy = "run it where KVM works (on hardware, or nested), or set WARREN_ACCEL=auto for software emulation";
  throw new WarrenError("host_unsupported", `WARREN_ACCEL=kvm, but ${why}; ${remedy}`, {
    details: { field: "WARREN_ACCEL", got: "kvm", allowed: "auto, tcg" },
  });
}
