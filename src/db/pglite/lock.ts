/**
 * One process at a time: PGlite itself would let a second one open the same files and damage them. The lock is SQLite's on
 * an empty file beside the data; the kernel frees it with its holder, however that ends.
 */
import { Database } from "bun:sqlite";

/** Null when another holder has it; else what gives it back. */
export function takeLock(path: string): (() => void) | null {
  const file = new Database(path, { create: true });
  try {
    file.run("PRAGMA locking_mode = EXCLUSIVE");
    file.run("BEGIN EXCLUSIVE");
  } catch (cause) {
    file.close();
    if (cause instanceof Error && "code" in cause && String(cause.code).startsWith("SQLITE_BUSY")) return null;
    throw cause;
  }
  return () => file.close();
}
