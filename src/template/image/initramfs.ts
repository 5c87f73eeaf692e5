/** The initramfs: our agent as /init, the virtio modules, empty mount points. Equal input gives equal bytes. */
import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { WarrenError } from "../../errors.ts";
import { published } from "../../host/home/publish.ts";
import { run } from "../../host/run.ts";
import { digestOf, writeDigested } from "../manifest.ts";
import { type CpioEntry, cpio } from "./cpio.ts";
import type { Kernel } from "./kernel.ts";

const AGENT_SOURCES = join(import.meta.dir, "../../../images/agent");
const MOUNT_POINTS = ["dev", "m", "proc", "r", "sys"];

/** Paths below `AGENT_SOURCES`, in its folders too. */
async function sources(): Promise<string[]> {
  return (await readdir(AGENT_SOURCES, { recursive: true })).filter((path) => /\.[ch]$/.test(path)).sort();
}

/** Digest of the agent's sources: its version. */
export async function agentVersion(): Promise<string> {
  const texts = await Promise.all((await sources()).map((path) => Bun.file(join(AGENT_SOURCES, path)).text()));
  return digestOf(texts);
}

/**
 * The agent as a static executable.
 * @throws {WarrenError} `bake_failed` – no compiler, or its complaint.
 */
async function compileAgent(target: string, version: string): Promise<void> {
  const files = (await sources()).filter((path) => path.endsWith(".c")).map((path) => join(AGENT_SOURCES, path));
  const flags = ["-static", "-O2", "-Wall", "-Wextra", "-Werror", `-DAGENT_VERSION="${version.slice(0, 16)}"`];
  const done = await run(["gcc", ...flags, ...files, "-o", target], { deadlineMs: 120_000 });
  if (done.exitCode !== 0) {
    throw new WarrenError(
      "bake_failed",
      `the guest agent does not compile; are gcc and libc6-dev installed?\n${done.stderr.slice(-2000)}`,
    );
  }
}

/** Path of the initramfs for this kernel, built when it is not there yet. @throws {WarrenError} `bake_failed` */
export async function initramfs(images: string, from: Kernel): Promise<string> {
  const version = await agentVersion();
  const modules = await Promise.all(from.modules.map((path) => Bun.file(path).bytes()));
  const hashes = modules.map((bytes) => new Bun.CryptoHasher("sha256").update(bytes).digest("hex"));
  const key = digestOf([version, hashes]).slice(0, 16);
  const dir = await published(join(images, `initramfs-${key}`), async (partial) => {
    const agent = join(partial, "agent");
    await compileAgent(agent, version);
    const entries: CpioEntry[] = MOUNT_POINTS.map((path) => ({ path, mode: 0o755 }));
    entries.push({ path: "init", mode: 0o755, content: await Bun.file(agent).bytes() });
    for (const [i, content] of modules.entries()) {
      entries.push({ path: `m/${10 + i}-${basename(from.modules[i]!)}`, mode: 0o644, content });
    }
    await writeDigested(join(partial, "initramfs.cpio"), cpio(entries));
  });
  return join(dir, "initramfs.cpio");
}
