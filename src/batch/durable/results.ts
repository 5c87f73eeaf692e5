/** The file of results: rows in item order, whole or not at all, copied from the journal a row at a time. */
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { WarrenError } from "../../errors.ts";
import { cannotWrite } from "./append-file.ts";
import type { Entry, Journal } from "./journal.ts";

/** One item's place in the results; null while it has no row. */
export interface Slot {
  entry: Entry | null;
}

const NEWLINE = Buffer.from("\n");
const WRITE_BYTES = 1024 * 1024;

async function writeAll(file: FileHandle, journal: Journal, slots: readonly Slot[]): Promise<void> {
  let parts: Uint8Array[] = [];
  let held = 0;
  for (const { entry } of slots) {
    if (entry === null) continue;
    parts.push(await journal.read(entry), NEWLINE);
    held += entry.length + 1;
    if (held < WRITE_BYTES) continue;
    await file.appendFile(Buffer.concat(parts));
    parts = [];
    held = 0;
  }
  await file.appendFile(Buffer.concat(parts));
  await file.datasync();
}

/** Beside the old results first, then in their place. @throws {WarrenError} `storage_exhausted`, `permission_denied` */
export async function writeResults(out: string, journal: Journal, slots: readonly Slot[]): Promise<void> {
  const temporary = `${out}.tmp`;
  await journal.sync();
  try {
    const file = await open(temporary, "w", 0o644);
    try {
      await writeAll(file, journal, slots);
    } finally {
      await file.close();
    }
    await rename(temporary, out);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw cause instanceof WarrenError ? cause : cannotWrite(out, cause);
  }
}
