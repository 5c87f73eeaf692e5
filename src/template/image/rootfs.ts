/**
 * A recipe's root file system as an ext4 image: packages by mmdebstrap, our few files, `mke2fs -d`. Nothing is mounted on the
 * host, neither while building nor later.
 */
import { chmod, mkdir, readdir, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { WarrenError } from "../../errors.ts";
import { published } from "../../host/home/publish.ts";
import { run } from "../../host/run.ts";
import { digestOf } from "../manifest.ts";
import { type Recipe, SUITE } from "../recipes.ts";
import { fetchPackages, isFull, type Say } from "./source.ts";

/** Bumped when the files below change. */
const LAYOUT = 2;

/** Not needed to run programs: 250 MB less to write and to read back. */
const WITHOUT = [
  "/usr/share/man/*",
  "/usr/share/doc/*",
  "/usr/share/locale/*",
  "/usr/share/info/*",
  "/usr/share/unicode/*",
  "/usr/include/boost/*",
  "/usr/lib/python3.11/config-*/*.a",
  "/usr/lib/x86_64-linux-gnu/openblas-pthread/*.a",
  "/usr/lib/x86_64-linux-gnu/lib?san*",
  "/usr/lib/gcc/x86_64-linux-gnu/12/lib?san*",
];

/** The gateway of images/agent/net.c, behind which the sandbox's own resolver answers: never what the building host uses. */
const RESOLV_CONF = "nameserver 10.99.0.1\noptions timeout:3 attempts:2\n";

/** Root installs into the system's Python, which is the sandbox's own; without a network it gives up after 2 s, not after 8. */
const PIP_CONF = `[global]
break-system-packages = true
disable-pip-version-check = true
retries = 3
root-user-action = ignore
`;

/** No journal: a clone's disk never outlives its guest, and a template's is taken at a quiet moment. */
const EXT4 = [
  "-q",
  "-F",
  "-t",
  "ext4",
  "-O",
  "^has_journal,^metadata_csum,^64bit",
  "-E",
  "lazy_itable_init=0,nodiscard",
  "-m",
  "0",
];

async function ourFiles(root: string): Promise<void> {
  await mkdir(join(root, "work"), { recursive: true });
  await chmod(join(root, "work"), 0o777); // any `user` of an exec may write its results there
  await writeFile(join(root, "etc/hostname"), "sandbox\n");
  await writeFile(join(root, "etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n");
  await unlink(join(root, "etc/resolv.conf")).catch(() => undefined); // absent in some variants
  await writeFile(join(root, "etc/resolv.conf"), RESOLV_CONF);
  await writeFile(join(root, "etc/pip.conf"), PIP_CONF);
  await writeFile(join(root, "etc/machine-id"), "");
  await unlink(join(root, "etc/mtab")).catch(() => undefined); // absent in some variants
  await symlink("../proc/self/mounts", join(root, "etc/mtab"));
  for (const dir of ["var/lib/apt/lists", "var/cache/apt/archives"]) {
    for (const name of await readdir(join(root, dir)))
      await rm(join(root, dir, name), { recursive: true, force: true });
  }
}

async function makeImage(root: string, image: string, diskMib: number): Promise<void> {
  const done = await run(["mke2fs", ...EXT4, "-d", root, image, `${diskMib}M`], { deadlineMs: 600_000 });
  if (done.exitCode !== 0) {
    throw new WarrenError(
      isFull(done.stderr) ? "storage_exhausted" : "bake_failed",
      `the root disk of ${diskMib} MiB could not be made: ${done.stderr.slice(-1000).trim()}`,
    );
  }
}

/** Digest of everything that a rootfs is made from. */
export function rootfsDigest(recipe: Recipe): string {
  return digestOf([LAYOUT, SUITE, [...recipe.packages].sort(), recipe.diskMib, WITHOUT, EXT4, RESOLV_CONF, PIP_CONF]);
}

/** Path of the image, built when it is not there yet. @throws {WarrenError} `bake_failed`, `storage_exhausted` */
export async function rootfs(
  images: string,
  recipe: Recipe,
  mirror: string,
  say: Say,
  signal?: AbortSignal,
): Promise<string> {
  const key = rootfsDigest(recipe).slice(0, 16);
  const dir = await published(join(images, `rootfs-${recipe.name}-${key}`), async (partial) => {
    const root = join(partial, "root");
    const packages = [...recipe.packages].sort();
    await fetchPackages({ mirror, variant: "minbase", packages, target: root, without: WITHOUT }, say, signal);
    await ourFiles(root);
    say("writing the root disk");
    await makeImage(root, join(partial, "disk.ext4"), recipe.diskMib);
    await rm(root, { recursive: true, force: true });
  });
  return join(dir, "disk.ext4");
}
