/**
 * Folders with an embedded database that is new and empty. Making one takes seconds, copying one a moment: the first is kept
 * beside the packages, under what it was made with.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { nonce } from "../../src/base/id.ts";
import { openPglite } from "../../src/db/pglite.ts";

const ROOT = join(import.meta.dir, "../..");

/** Of the package and of the thread that sets it up. */
function madeWith(): string {
  const hash = new Bun.CryptoHasher("sha256");
  for (const path of ["node_modules/@electric-sql/pglite/package.json", "src/db/pglite/worker.ts"]) {
    hash.update(readFileSync(join(ROOT, path)));
  }
  return hash.digest("hex").slice(0, 16);
}

/** Puts an empty database where `openStore({ dir })` finds it: it has no migrations yet, and nobody has it open. */
export async function newDatabase(dir: string): Promise<void> {
  const kept = join(ROOT, "node_modules/.cache/warren-pglite", madeWith());
  if (!existsSync(kept)) {
    const making = `${kept}-${nonce()}`;
    mkdirSync(making, { recursive: true });
    await (await openPglite(making, { clock: systemClock }))[Symbol.asyncDispose]();
    try {
      renameSync(making, kept);
    } catch {
      rmSync(making, { recursive: true, force: true }); // another test process was first
    }
  }
  cpSync(kept, dir, { recursive: true });
}
