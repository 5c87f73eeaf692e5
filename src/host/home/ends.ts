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

/** To be called when nothing of it runs any more, before its run directory is removed. */
export function keepEnd({ home, run }: Pick<Folders, "home" | "run">, id: string): void {
  const dir = join(run, id);
  if (!existsSync(join(dir, RECORD)) || !existsSync(folder(home))) return;
  const record = JSON.parse(readFileSync(join(dir, RECORD), "utf8")) as SandboxRecord;
  const { account, info, ref, time } = record;
  if (time === undefined) return;
  const end = ref.startMs === undefined ? null : readVmmEnd(join(dir, EXITS), ref.startMs);
  const ended: EndedRun = { id, account, info, hostBootId: ref.hostBootId, time, end };
  const partial = join(folder(home), `.${id}-${nonce()}`);
  writeFileSync(partial, JSON.stringify(ended), { mode: 0o600 });
  renameSync(partial, join(folder(home), `${id}.json`));
}

/** Null when none is kept of it. */
export function endOf(home: string, id: string): EndedRun | null {
  try {
    // Only root can write here, and a file appears whole: its shape is trusted.
    return JSON.parse(readFileSync(join(folder(home), `${id}.json`), "utf8")) as EndedRun;
  } catch (error) {
    if (hasCode(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
}

export function allEnds(home: string): EndedRun[] {
  const names = existsSync(folder(home)) ? readdirSync(folder(home)) : [];
  return names
    .filter((name) => !name.startsWith("."))
    .map((name) => endOf(home, name.slice(0, -".json".length)))
    .filter((end) => end !== null);
}

/** Unknown ones are fine. */
export function forgetEnd(home: string, id: string): void {
  rmSync(join(folder(home), `${id}.json`), { force: true });
}
