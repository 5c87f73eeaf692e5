/** Directories that appear whole: filled under a name of their own, then renamed into place. */
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { nonce } from "../base/id.ts";

/**
 * Fills `dir` through `fill` unless it is there already. It appears by a rename, so a second process or a crash never shows
 * half of it; when two fill it at once, the first to finish stays and the other uses that.
 */
export async function published(dir: string, fill: (partial: string) => Promise<void>): Promise<string> {
  if (await Bun.file(join(dir, "complete")).exists()) return dir;
  const partial = `${dir}.partial-${nonce()}`;
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
