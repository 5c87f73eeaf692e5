/** Small things that a folder of snapshots is kept with. */
import { closeSync, constants, fsyncSync, ftruncateSync, openSync, readdirSync, statSync } from "node:fs";
import { copySparse } from "../host/memory.ts";

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

/** All data of one file to another that is empty, holes left, the end included. @throws {WarrenError} `storage_exhausted` */
export async function copyWhole(from: number, to: number, sizeBytes: number): Promise<void> {
  ftruncateSync(to, sizeBytes);
  await copySparse(from, to, sizeBytes);
}
