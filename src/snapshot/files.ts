/** Small things that a folder of snapshots is kept with. */
import { closeSync, constants, fsyncSync, openSync, readdirSync, statSync } from "node:fs";

export function failsWith(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}

/** Names in a folder; none when it does not exist. */
export function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if (failsWith(error, "ENOENT")) return [];
    throw error;
  }
}

/** Names in it are on disk from here on. */
export function syncFolder(dir: string): void {
  const fd = openSync(dir, constants.O_RDONLY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Bytes allocated to a file, whoever shares them. */
export function allocatedBytes(path: string): number {
  return (statSync(path, { throwIfNoEntry: false })?.blocks ?? 0) * 512;
}
