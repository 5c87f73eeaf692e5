/**
 * One bake: boot once, warm up, take RAM, device state and disk of one pause, try a clone of it, publish the whole as one
 * immutable unit under a fresh name. Whatever fails leaves nothing behind.
 */
import { closeSync, constants, fsyncSync, openSync } from "node:fs";
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { nonce, randomBytes, uuid } from "../base/id.ts";
import type { Machine, Vmm } from "../driver/driver.ts";
import { WarrenError } from "../errors.ts";
import { GuestAgent } from "../guest/agent.ts";
import { partialOf } from "../host/home/publish.ts";
import { imageOf, runsOf } from "../host/layers.ts";
import { copySparse, createMemory, digestSparse, reflink, sealMemory } from "../host/memory.ts";
import { LIMITS } from "../limits.ts";
import { type BakeTools, bootPlan, commandLine, planOf } from "./boot.ts";
import type { Say } from "./image/source.ts";
import { digestOf, type Fit, FORMAT, type Manifest } from "./manifest.ts";

const INTERPRETER_SOURCES = join(import.meta.dir, "../../images/python");
const INTERPRETER_DIR = "/usr/lib/warren";

/** The warm interpreter's files: name and text, in order of name. */
async function interpreterFiles(): Promise<[string, string][]> {
  const all = await readdir(INTERPRETER_SOURCES, { recursive: true });
  const names = all.filter((name) => name.endsWith(".py")).sort();
  return await Promise.all(
    names.map(
      async (name): Promise<[string, string]> => [name, await Bun.file(join(INTERPRETER_SOURCES, name)).text()],
    ),
  );
}

export async function interpreterDigest(): Promise<string> {
  return digestOf(await interpreterFiles());
}

/** The warm interpreter goes in through the agent, so that a change of it leaves the root disk as it is. */
export async function installInterpreter(agent: GuestAgent): Promise<void> {
  for (const [name, text] of await interpreterFiles()) {
    await agent.writeFile({ path: `${INTERPRETER_DIR}/${name}`, body: new TextEncoder().encode(text) });
  }
}

export interface BakeParts {
  readonly vmlinux: string;
  readonly initrd: string;
  readonly disk: string;
  readonly warm: readonly string[];
}

/** An identity as every clone gets one: the template itself must not run on guessable randomness either. */
export function freshIdentity(clock: Clock): Parameters<GuestAgent["identity"]>[0] {
  return {
    entropy: randomBytes(64),
    wallNs: BigInt(Math.round(clock.wallMs() * 1e6)),
    hostname: "sandbox",
    bootId: uuid(),
    machineId: uuid().replaceAll("-", ""),
    reseed: true,
  };
}

async function answers42(agent: GuestAgent, signal: AbortSignal): Promise<void> {
  let out = "";
  for await (const event of agent.exec({ python: { code: "print(6*7)\n" }, timeoutSeconds: 120 }, signal)) {
    if (event.kind === "stdout" || event.kind === "stderr") out += new TextDecoder().decode(event.bytes);
  }
  if (out !== "42\n")
    throw new WarrenError(
      "bake_failed",
      `the guest's Python answered ${JSON.stringify(out.slice(0, 500))} to print(6*7)`,
    );
}

/** In the order that shortens a clone's first steps: what is touched here is in the page cache of every clone. */
async function warmUp(
  vmm: Vmm,
  parts: BakeParts,
  clock: Clock,
  say: Say,
  signal: AbortSignal,
): Promise<{ agent: GuestAgent }> {
  say("booting the guest");
  await vmm.resume(signal);
  const agent = await GuestAgent.connect(await vmm.connect(0, signal), { clock, signal, helloMs: LIMITS.bakeBootMs });
  await agent.identity(freshIdentity(clock), signal);
  if (parts.warm.length > 0) {
    say(`importing ${parts.warm.join(", ")}`);
    await installInterpreter(agent);
    await agent.warm(parts.warm, signal);
    await answers42(agent, signal);
  }
  say("running once what every item runs");
  for await (const _ of agent.exec(
    { cmd: "python3 -c 'print(6*7)' | cat; ls / >/dev/null", timeoutSeconds: 120 },
    signal,
  )) {
    // Its output does not matter: the shell, coreutils and python3 are now in the page cache.
  }
  await agent.sync({}, signal);
  return { agent };
}

function openFor(stack: AsyncDisposableStack, path: string, flags: number): number {
  const fd = openSync(path, flags, 0o600);
  stack.defer(() => closeSync(fd));
  return fd;
}

/** Boots and warms; on return the guest is paused, its device state written to `dir/state`, its disk reflinked to `dir/disk`. */
async function takeSnapshot(
  tools: BakeTools,
  fit: Fit,
  parts: BakeParts,
  dir: string,
  memoryFd: number,
  say: Say,
  signal: AbortSignal,
): Promise<{ bootNonce: string; agentVersion: string }> {
  await using stack = new AsyncDisposableStack();
  const plan = await bootPlan(tools, stack, {
    machine: { cpu: fit.cpu, memoryMib: fit.memoryMib, accel: { kind: fit.accel } },
    memoryFd,
    diskFd: openFor(stack, parts.disk, constants.O_RDONLY),
    vmlinux: parts.vmlinux,
    initrd: parts.initrd,
    commandLine: commandLine(fit),
  });
  const vmm = await tools.driver.prepare(plan, signal);
  stack.defer(() => vmm.kill());
  const { agent } = await warmUp(vmm, parts, tools.clock, say, signal);
  say("taking the snapshot");
  await vmm.pause(signal);
  await vmm.save(openFor(stack, join(dir, "state"), constants.O_WRONLY | constants.O_CREAT), signal);
  const disk = openFor(stack, join(dir, "disk"), constants.O_RDWR | constants.O_CREAT);
  reflink(plan.disk.roFd, disk);
  fsyncSync(disk);
  const result = { bootNonce: agent.bootNonce, agentVersion: agent.version };
  agent.close();
  return result;
}

/** Restores one clone of the new unit and runs Python in it; a unit that cannot do that is never published. MiB it dirtied. */
async function tryClone(
  tools: BakeTools,
  fit: Fit,
  dir: string,
  memoryFd: number,
  signal: AbortSignal,
): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const diskFd = openFor(stack, join(dir, "disk"), constants.O_RDONLY);
  const snapshot = { openState: () => openSync(join(dir, "state"), constants.O_RDONLY), diskFd };
  const image = imageOf([{ fd: memoryFd, runs: runsOf(memoryFd, fit.memoryMib * 2 ** 20) }]);
  stack.defer(() => closeSync(image.tableFd));
  const id = `bake-${nonce()}`;
  const lease = stack.use(
    await tools.host.lease({ id, memoryMib: fit.memoryMib, cpu: fit.cpu, snapshot, detached: false }),
  );
  const machine: Machine = { cpu: fit.cpu, memoryMib: fit.memoryMib, accel: { kind: fit.accel } };
  const vmm = await tools.driver.prepare(
    planOf(lease, machine, { kind: "restore", stateFd: lease.stateFd }, { kind: "image", image }),
    signal,
  );
  stack.defer(() => vmm.kill());
  const link = await vmm.connect(0, signal);
  await vmm.load(signal);
  await vmm.resume(signal);
  const agent = await GuestAgent.connect(link, { clock: tools.clock, signal });
  await agent.identity(freshIdentity(tools.clock), signal);
  await answers42(agent, signal);
  const used = lease.memoryMib();
  agent.close();
  return used ?? 64; // no memory controller: the largest of the measured kinds (46 MiB) with a reserve
}

async function sha256File(path: string): Promise<string> {
  return new Bun.CryptoHasher("sha256").update(await Bun.file(path).bytes()).digest("hex");
}

async function allocated(path: string): Promise<{ bytes: number; allocatedBytes: number }> {
  const facts = await stat(path);
  return { bytes: facts.size, allocatedBytes: facts.blocks * 512 };
}

async function writeMemory(memoryFd: number, path: string, bytes: number): Promise<string> {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    await copySparse(memoryFd, fd, bytes);
    fsyncSync(fd);
    return await digestSparse(fd, bytes);
  } finally {
    closeSync(fd);
  }
}

/**
 * Bakes one size and publishes it in `templateDir`.
 * @throws {WarrenError} `bake_failed` – with what the guest or the VMM said; `cancelled` through `signal`.
 */
export async function bakeSnapshot(
  tools: BakeTools,
  fit: Fit,
  parts: BakeParts,
  templateDir: string,
  say: Say,
  signal: AbortSignal,
): Promise<string> {
  const dir = partialOf(`${templateDir}/`);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const bytes = fit.memoryMib * 1024 * 1024;
  const memoryFd = createMemory("warren-bake", bytes);
  try {
    const guest = await takeSnapshot(tools, fit, parts, dir, memoryFd, say, signal);
    sealMemory(memoryFd);
    say("writing the memory image");
    const xxh3 = await writeMemory(memoryFd, join(dir, "memory"), bytes);
    say("trying a first clone");
    const workingSetMib = await tryClone(tools, fit, dir, memoryFd, signal);
    const state = { bytes: (await stat(join(dir, "state"))).size, sha256: await sha256File(join(dir, "state")) };
    const body = {
      fit,
      bakedAt: new Date(tools.clock.wallMs()).toISOString(),
      ...guest,
      parts: {
        memory: { ...(await allocated(join(dir, "memory"))), xxh3 },
        state,
        disk: await allocated(join(dir, "disk")),
      },
      workingSetMib,
    };
    const manifest: Manifest = { ...body, digest: digestOf([FORMAT, body]).slice(0, 32) };
    await Bun.write(join(dir, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    const final = join(templateDir, `${fit.cpu}x${fit.memoryMib}-${manifest.digest}`);
    await rename(dir, final);
    return final;
  } catch (error) {
    await rm(dir, { recursive: true, force: true });
    if (signal.aborted) throw signal.reason;
    const why = error instanceof Error ? error.message : String(error);
    const isFull = error instanceof Error && "code" in error && error.code === "ENOSPC";
    throw new WarrenError(
      isFull ? "storage_exhausted" : "bake_failed",
      `the template ${fit.template} (${fit.cpu} vCPU, ${fit.memoryMib} MiB) could not be baked: ${why}`,
      { cause: error },
    );
  } finally {
    closeSync(memoryFd);
  }
}
