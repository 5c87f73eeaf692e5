/** The product's own figures, each taken through the public interface. Times in milliseconds, memory in KiB. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { batch } from "../../src/batch/batch.ts";
import type { Item } from "../../src/batch/items/item.ts";
import { batchParts, type Warren } from "../../src/compose.ts";
import type { Machine } from "../../src/driver/driver.ts";
import { GuestAgent } from "../../src/guest/agent.ts";
import { Sandbox } from "../../src/sandbox.ts";
import { freshIdentity, installInterpreter } from "../../src/template/bake.ts";
import { bootPlan, commandLine, memoryOf } from "../../src/template/boot.ts";
import { tscKhz } from "../../src/template/cpu.ts";
import { initramfs } from "../../src/template/image/initramfs.ts";
import { kernel } from "../../src/template/image/kernel.ts";
import { rootfs } from "../../src/template/image/rootfs.ts";
import { recipeOf } from "../../src/template/recipes.ts";

export async function timed(job: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await job();
  return performance.now() - start;
}

/** The first thing that is asked of a sandbox, in its warm interpreter. */
export async function verified(sandbox: Sandbox): Promise<void> {
  const { stdout, stderr } = await sandbox.python("print(6*7)\n");
  if (stdout !== "42\n") throw new Error(`print(6*7) said ${JSON.stringify(stdout + stderr)}`);
}

/** Create → first verified result. `path` is checked: a run that took another road is no sample. */
export async function createToExec(warren: Warren, template: string, path: string): Promise<number> {
  if (path !== "none") await warren.engine.prepare({ template });
  let sandbox: Sandbox | null = null;
  const ms = await timed(async () => {
    sandbox = await Sandbox.create({ template }, warren.sandboxes);
    await verified(sandbox);
  });
  const info = await sandbox!.info();
  await sandbox!.close();
  if (info.createPath !== path) throw new Error(`took the path ${info.createPath}, not ${path}`);
  return ms;
}

/** First cell in the warm interpreter, then a cold `python3 -c`, in the same fresh guest: the order favours the latter. */
export async function cellAgainstCold(warren: Warren, template: string): Promise<{ cell: number; cold: number }> {
  await using sandbox = await Sandbox.create({ template }, warren.sandboxes);
  const cell = await timed(() => verified(sandbox));
  const cold = await timed(() => sandbox.exec(["python3", "-c", "print(6*7)"]));
  return { cell, cold };
}

/** Boot from power-on to the same result as a create: kernel, agent, warm imports, `print(6*7)`. */
export async function coldBoot(warren: Warren, template: string): Promise<number> {
  const recipe = recipeOf(template);
  const images = join(warren.host.data.dir, "images");
  const { mirror, kernel: path } = warren.config;
  const from = await kernel(images, { mirror, path }, () => undefined);
  const initrd = await initramfs(images, from);
  const diskPath = await rootfs(images, recipe, mirror, () => undefined);
  const accel = await warren.templates.acceleration();
  const tsc = await tscKhz(warren.host.data.dir, warren.clock);
  await using stack = new AsyncDisposableStack();
  const machine: Machine = { cpu: recipe.cpu, memoryMib: recipe.memoryMib, accel: { kind: accel.kind } };
  const { openSync, closeSync } = await import("node:fs");
  const diskFd = openSync(diskPath, "r");
  stack.defer(() => closeSync(diskFd));
  return await timed(async () => {
    const plan = await bootPlan(warren, stack, {
      machine,
      memoryFd: await memoryOf(stack, null, recipe.memoryMib * 2 ** 20),
      diskFd,
      vmlinux: from.vmlinux,
      initrd,
      commandLine: commandLine({ accel: accel.kind, tscKhz: tsc }),
    });
    const vmm = await warren.driver.prepare(plan);
    stack.defer(() => vmm.kill());
    await vmm.resume();
    const agent = await GuestAgent.connect(await vmm.connect(0), { clock: warren.clock, helloMs: 120_000 });
    await agent.identity(freshIdentity(warren.clock));
    await installInterpreter(agent);
    await agent.warm(recipe.warm);
    for await (const event of agent.exec({ python: { code: "print(6*7)\n" } })) if (event.kind === "exit") break;
    agent.close();
  });
}

export interface CloneMemory {
  readonly guestKib: number;
  readonly vmmKib: number;
}

/** Private memory of the VMM behind a jail's first process, split by whether it is the guest's RAM. */
function privateMemory(initPid: number): CloneMemory {
  const child = readFileSync(`/proc/${initPid}/task/${initPid}/children`, "utf8").trim().split(" ")[0];
  let guestKib = 0;
  let vmmKib = 0;
  let isGuest = false;
  for (const line of readFileSync(`/proc/${child}/smaps`, "utf8").split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) isGuest = line.includes("memfd:warren-template");
    const kib = /^Private_(?:Clean|Dirty): +(\d+) kB/.exec(line)?.[1];
    if (kib === undefined) continue;
    if (isGuest) guestKib += Number(kib);
    else vmmKib += Number(kib);
  }
  return { guestKib, vmmKib };
}

/** Per idle clone, `count` of them alive at once: shared pages count for none of them. */
export async function idleMemory(warren: Warren, template: string, count: number): Promise<CloneMemory[]> {
  const sandboxes = await Promise.all(
    Array.from({ length: count }, () => Sandbox.create({ template }, warren.sandboxes)),
  );
  const pids = await Promise.all(
    sandboxes.map(async ({ id }) => (await warren.host.registry.get(id))?.ref.pid ?? Number.NaN),
  );
  const memory = pids.map(privateMemory);
  await Promise.all(sandboxes.map((sandbox) => sandbox.close()));
  return memory;
}

/** Per item: the batch's way, and the same sandboxes by hand with as many at once. */
export async function batchItems(
  warren: Warren,
  template: string,
  count: number,
): Promise<{ batch: number; hand: number }> {
  const concurrency = 2;
  const items: Item[] = Array.from({ length: count }, (_, i) => ({ id: String(i), code: "print(6*7)\n" }));
  const batched = await timed(async () => {
    for await (const row of batch(batchParts(warren), items, { template, concurrency })) {
      if (row.stdout !== "42\n") throw new Error(`item ${row.id}: ${row.error ?? row.stdout}`);
    }
  });
  let left = count;
  const lane = async (): Promise<void> => {
    while (left-- > 0) {
      await using sandbox = await Sandbox.create({ template }, warren.sandboxes);
      await verified(sandbox);
    }
  };
  const hand = await timed(() => Promise.all(Array.from({ length: concurrency }, lane)));
  return { batch: batched / count, hand: hand / count };
}
