/** A file of this host that appears whole or not at all. */
import { constants } from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { WarrenError } from "../../errors.ts";

export async function writeWhole(path: string, mode: number, body: AsyncIterable<Uint8Array>): Promise<void> {
  const temporary = `${path}.warren-tmp`;
  await rm(temporary, { force: true });
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const file = await open(temporary, flags, mode & 0o777);
  try {
    try {
      for await (const chunk of body) await file.writeFile(chunk);
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw cause;
  }
}

/** What a failure to write a file is to a user; anything else is itself. */
export function cannotWrite(path: string, cause: unknown): unknown {
  if (cause instanceof WarrenError || !(cause instanceof Error) || !("code" in cause)) return cause;
  const code = cause.code === "ENOSPC" ? "storage_exhausted" : "invalid_request";
  return new WarrenError(code, `${path} cannot be written: ${cause.message}`, { cause });
}
