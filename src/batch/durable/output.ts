/** The files of one output and who may write them: one batch at a time, and never over something that is not a batch's. */
import { constants } from "node:fs";
import { access, rm, stat, truncate } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { WarrenError } from "../../errors.ts";
import { cannotWrite } from "./append-file.ts";

/** The lock of a file, or null when another has it; freed by the system when its process dies. */
export type TryLock = (path: string) => Disposable | null;

async function sizeOf(path: string): Promise<number | null> {
  try {
    const facts = await stat(path);
    if (facts.isFile()) return facts.size;
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return null;
    throw cannotWrite(path, cause);
  }
  throw new WarrenError("already_exists", `${path} is no regular file: results need one`);
}

/** Results without the journal that they came from are not ours to replace. @throws {WarrenError} `already_exists` */
export async function refuseForeign(out: string, journal: string): Promise<void> {
  const journalBytes = (await sizeOf(journal)) ?? 0;
  const outBytes = await sizeOf(out);
  if (outBytes === null || outBytes === 0 || journalBytes > 0) return;
  const says = `${out} exists and was not written by a batch that can be resumed (there is no ${basename(journal)})`;
  throw new WarrenError("already_exists", `${says}: choose another --out, or --fresh to replace it`);
}

/** @throws {WarrenError} `already_exists` – another batch has this output; `permission_denied` */
export async function lockOutput(tryLock: TryLock, out: string, journal: string): Promise<Disposable> {
  let lock: Disposable | null;
  try {
    await access(dirname(out), constants.W_OK);
    lock = tryLock(journal);
  } catch (cause) {
    throw cannotWrite(out, cause);
  }
  // A holder that had nothing to keep removes the file: then this lock is one on a file that is gone.
  if (lock !== null && (await sizeOf(journal)) !== null) return lock;
  lock?.[Symbol.dispose]();
  throw new WarrenError("already_exists", `another batch is writing ${out}: wait for it, or choose another --out`);
}

/** Throws away what an earlier run left. The journal's file stays, since it carries the lock. */
export async function startAnew(out: string, journal: string, artifacts: string): Promise<void> {
  await rm(artifacts, { recursive: true, force: true });
  await rm(out, { force: true });
  await truncate(journal, 0);
}
