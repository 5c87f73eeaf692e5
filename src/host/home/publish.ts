/** Directories that appear whole: filled under a name of their own, then renamed into place. */
import { existsSync, readdirSync, realpathSync, rmSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { unmountAt } from "../../../ffi/mounts.ts";
import { nonce } from "../../base/id.ts";
import { startTicksOf } from "../slots/process-name.ts";
import { readMounts } from "./mountinfo.ts";

const PARTIAL = /\.partial-(\d+)-(\d+)-[a-z0-9]+$/;

/** A name beside `path` that says who is filling it, so that `removePartials` knows a dead process's from a living one's. */
export function partialOf(path: string): string {
  return `${path}.partial-${process.pid}-${startTicksOf(process.pid) ?? 0}-${nonce()}`;
}

/** Removes what processes that have ended left half-filled in `dir`, if there is such a directory. */
export function removePartials(dir: string): void {
  for (const name of existsSync(dir) ? readdirSync(dir) : []) {
    const match = PARTIAL.exec(name);
    if (match !== null && startTicksOf(Number(match[1])) !== Number(match[2])) {
      unmountBelow(join(dir, name));
      rmSync(join(dir, name), { recursive: true, force: true });
    }
  }
}

/** A build of a root file system that was killed leaves /proc, /sys and devices mounted in it: nothing is removed through them. */
function unmountBelow(dir: string): void {
  const inside = `${realpathSync(dir)}/`;
  const below = readMounts().filter(({ at }) => at.startsWith(inside));
  for (const { at } of below.reverse()) unmountAt(at, "detach");
}

/**
 * Fills `dir` through `fill` unless it is there already. It appears by a rename, so a second process or a crash never shows
 * half of it; when two fill it at once, the first to finish stays and the other uses that.
 */
export async function published(dir: string, fill: (partial: string) => Promise<void>): Promise<string> {
  if (await Bun.file(join(dir, "complete")).exists()) return dir;
  const partial = partialOf(dir);
  await mkdir(partial, { recursive: true, mode: 0o700 });
  try {
    await fill(partial);
    await Bun.write(join(partial, "complete"), "");
    await rename(partial, dir).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
      await rm(partial, { recursive: true, force: true });
    });
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
  return dir;
}
