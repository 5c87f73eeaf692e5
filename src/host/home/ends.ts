/**
 * What a server that was not there needs to know of sandboxes that ended meanwhile: `HOME/server/ended/<id>.json`, made of a
 * sandbox's record and of the kernel's word on its VMM's end in the moment before both are removed. Only where a server has
 * been, which takes them away once its database has them.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { hasCode } from "../../../ffi/native.ts";
import { nonce } from "../../base/id.ts";
import type { SandboxInfo } from "../../contract/routes/sandboxes.ts";
import type { VmEnd } from "../../driver/driver.ts";
import type { RecordTime, SandboxRecord } from "../../engine/registry.ts";
import { EXITS, readVmmEnd } from "../jail/exits.ts";
import type { Folders } from "./data.ts";

/** Name of the file in a sandbox's run directory that makes it findable by other processes. */
export const RECORD = "sandbox.json";

/** The last run of a sandbox on a machine of this host. It may have gone on since, on another: it is over only if nobody has it. */
export interface EndedRun {
  readonly id: string;
  readonly account: string;
  readonly info: SandboxInfo;
  /** The boot that `time` and `end` are on. */
  readonly hostBootId: string;
  readonly time: RecordTime;
  /** Null where the kernel has written nothing down. */
  readonly end: VmEnd | null;
}

function folder(home: string): string {
  return join(home, "server", "ended");
}

/** From here on ends are kept in this home. */
export function keepEnds(home: string): void {
  mkdirSync(folder(home), { recursive: true, mode: 0o700 });
}

/** Only root can write these, and whole; but a power failure may have emptied one, which then says nothing. */
function parsed<T>(path: string): T | null {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as T;
  } catch (error) {
    if (error instanceof SyntaxError || hasCode(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
}

/**
 * To be called when nothing of it runs any more, before its run directory is removed. Where the disk is full nothing is kept:
 * its last proof of life has to do, and what it leaves has to go.
 */
export function keepEnd({ home, run }: Pick<Folders, "home" | "run">, id: string): void {
  if (!existsSync(folder(home))) return;
  const dir = join(run, id);
  const record = parsed<SandboxRecord>(join(dir, RECORD));
  if (record?.time === undefined) return;
  const { account, info, ref, time } = record;
  const end = ref.startMs === undefined ? null : readVmmEnd(join(dir, EXITS), ref.startMs);
  const ended: EndedRun = { id, account, info, hostBootId: ref.hostBootId, time, end };
  const partial = join(folder(home), `.${id}-${nonce()}`);
  try {
    writeFileSync(partial, JSON.stringify(ended), { mode: 0o600 });
    renameSync(partial, join(folder(home), `${id}.json`));
  } catch (error) {
    rmSync(partial, { force: true });
    if (!hasCode(error, "ENOSPC", "EDQUOT", "EROFS", "EIO")) throw error;
  }
}

/** Null when none is kept of it. */
export function endOf(home: string, id: string): EndedRun | null {
  return parsed<EndedRun>(join(folder(home), `${id}.json`));
}

/** What a crash left half-written, or a power failure empty, is removed on the way. */
export function allEnds(home: string): EndedRun[] {
  const found: EndedRun[] = [];
  for (const name of existsSync(folder(home)) ? readdirSync(folder(home)) : []) {
    const end = name.startsWith(".") ? null : endOf(home, name.slice(0, -".json".length));
    if (end !== null) found.push(end);
    else rmSync(join(folder(home), name), { force: true });
  }
  return found;
}

/** Unknown ones are fine. */
export function forgetEnd(home: string, id: string): void {
  rmSync(join(folder(home), `${id}.json`), { force: true });
}
