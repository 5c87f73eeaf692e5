/** The guest kernel: Debian's cloud kernel, or any by configuration, as a vmlinux beside the modules that boot needs. */
import { copyFile, mkdir, readdir, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { WarrenError } from "../../errors.ts";
import { published } from "../../host/home/publish.ts";
import { runOk } from "../../host/run.ts";
import { digestOf, writeDigested } from "../manifest.ts";
import { SUITE } from "../recipes.ts";
import { vmlinuxOf } from "./bzimage.ts";
import { fetchPackages, type Say } from "./source.ts";

const PACKAGE = "linux-image-cloud-amd64";
/** In the order of loading: each needs those before it. Built into other kernels, and then simply absent. */
const MODULES = [
  "drivers/virtio/virtio_ring",
  "drivers/virtio/virtio",
  "drivers/virtio/virtio_mmio",
  "drivers/block/virtio_blk",
  "drivers/char/virtio_console",
  "net/core/failover",
  "drivers/net/net_failover",
  "drivers/net/virtio_net",
  "drivers/virtio/virtio_balloon",
] as const;

export interface Kernel {
  readonly vmlinux: string;
  /** Paths of .ko files in the order of loading. */
  readonly modules: readonly string[];
}

async function moduleFiles(modulesDir: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of MODULES) {
    const path = join(modulesDir, "kernel", `${name}.ko`);
    if (await Bun.file(path).exists()) found.push(path);
  }
  return found;
}

async function fetchKernel(dir: string, mirror: string, say: Say, signal?: AbortSignal): Promise<void> {
  const tar = join(dir, "kernel.tar");
  await fetchPackages({ mirror, variant: "extract", packages: [PACKAGE], target: tar, without: [] }, say, signal);
  say("unpacking the kernel");
  await runOk(["tar", "-xf", tar, "-C", dir, "./boot", "./lib/modules"], { deadlineMs: 120_000 });
  const image = (await readdir(join(dir, "boot"))).find((name) => name.startsWith("vmlinuz-"));
  if (image === undefined) throw new WarrenError("bake_failed", `the package ${PACKAGE} holds no kernel`);
  const vmlinux = vmlinuxOf(await Bun.file(join(dir, "boot", image)).bytes());
  await writeDigested(join(dir, "vmlinux"), vmlinux);
  await mkdir(join(dir, "modules"));
  const release = image.slice("vmlinuz-".length);
  for (const file of await moduleFiles(join(dir, "lib/modules", release))) {
    await copyFile(file, join(dir, "modules", basename(file)));
  }
  for (const left of ["kernel.tar", "boot", "lib"]) await rm(join(dir, left), { recursive: true, force: true });
}

async function ownKernel(dir: string, path: string): Promise<void> {
  if (!(await Bun.file(path).exists())) {
    throw new WarrenError("template_invalid", `WARREN_KERNEL names ${path}, which cannot be read`, {
      details: { field: "WARREN_KERNEL", got: path, allowed: "a bzImage or an ELF kernel" },
    });
  }
  await writeDigested(join(dir, "vmlinux"), vmlinuxOf(await Bun.file(path).bytes()));
  await mkdir(join(dir, "modules"));
  for (const file of await moduleFiles(join(dirname(path), "modules"))) {
    await copyFile(file, join(dir, "modules", basename(file)));
  }
}

/**
 * The kernel, fetched and unpacked when it is not there yet. One of your own (a path) may have its virtio drivers built in,
 * or a `modules/kernel/…` tree beside it.
 * @throws {WarrenError} `bake_failed` – no packages; `template_invalid` – not a kernel that Warren can read.
 */
export async function kernel(
  images: string,
  from: { readonly mirror: string; readonly path: string | null },
  say: Say,
  signal?: AbortSignal,
): Promise<Kernel> {
  const key = digestOf([from.path ?? `${SUITE}/${PACKAGE}`, MODULES]).slice(0, 16);
  const dir = await published(join(images, `kernel-${key}`), (partial) =>
    from.path === null ? fetchKernel(partial, from.mirror, say, signal) : ownKernel(partial, from.path),
  );
  const present = new Set(await readdir(join(dir, "modules")));
  const modules = MODULES.map((name) => `${basename(name)}.ko`).filter((name) => present.has(name));
  return { vmlinux: join(dir, "vmlinux"), modules: modules.map((name) => join(dir, "modules", name)) };
}
