/**
 * Images of hibernated sandboxes, under the sandboxes' ids. Waking one takes it: its folder gets a name that says which
 * process has it, by a rename that only one of several can do. A taker that ends before the guest ran leaves it to be put
 * back; from the first instruction on there is nothing to put back.
 */
import { existsSync, renameSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { nonce } from "../base/id.ts";
import type { SavedSnapshot, SnapshotMeta, TakenImage } from "../engine/snapshots.ts";
import type { OpenTemplate } from "../engine/templates.ts";
import { WarrenError } from "../errors.ts";
import { partialOf } from "../host/home/publish.ts";
import { startTicksOf } from "../host/slots/process-name.ts";
import { failsWith, namesIn, syncFolder } from "./files.ts";
import { openPoint } from "./point.ts";
import { held, Shelf, type ShelfParts } from "./shelf.ts";

const TAKEN = /^(.+)\.taken-(\d+)-(\d+)-[a-z0-9]+$/;

export class Images {
  readonly #dir: string;
  readonly #parts: () => Promise<ShelfParts>;
  readonly #shelf: Shelf;

  constructor(dir: string, parts: () => Promise<ShelfParts>) {
    this.#dir = dir;
    this.#parts = parts;
    this.#shelf = new Shelf(dir, parts);
  }

  save(point: OpenTemplate, meta: SnapshotMeta, signal?: AbortSignal) {
    return this.#shelf.save(point, meta, signal);
  }

  find(id: string): SavedSnapshot | null {
    this.#putBackOrphans();
    return this.#shelf.find(id);
  }

  list(): SavedSnapshot[] {
    this.#putBackOrphans();
    return this.#shelf.list();
  }

  /** Null when there is none, or someone else has it. @throws {WarrenError} `snapshot_invalid`; it stays where it is then */
  async take(id: string): Promise<TakenImage | null> {
    const saved = this.find(id);
    if (saved === null) return null;
    const path = join(this.#dir, id);
    const taken = `${path}.taken-${process.pid}-${startTicksOf(process.pid) ?? 0}-${nonce()}`;
    if (!this.#renamed(path, taken)) return null; // lost with the power it is there again, and nobody has run it
    let where: string | null = taken;
    return {
      saved,
      open: async (signal) => {
        const point = await openPoint(await this.#parts(), taken, id, signal);
        if (point === null)
          throw new WarrenError("snapshot_invalid", `the image of ${id} is gone`, { details: { id } });
        return held(point);
      },
      putBack: async () => {
        if (where !== null) this.#moved(where, path);
        where = null;
      },
      consume: async () => {
        if (where === null) return;
        const gone = partialOf(path);
        this.#moved(where, gone);
        where = null;
        await rm(gone, { recursive: true, force: true });
      },
    };
  }

  remove(id: string): Promise<boolean> {
    this.#putBackOrphans();
    return this.#shelf.remove(id);
  }

  collect(): void {
    this.#putBackOrphans();
    this.#shelf.collect();
  }

  /** What processes had taken that ended before their guest ran. */
  #putBackOrphans(): void {
    for (const name of namesIn(this.#dir)) {
      const [, id, pid, ticks] = TAKEN.exec(name) ?? [];
      if (id === undefined || startTicksOf(Number(pid)) === Number(ticks)) continue;
      if (!existsSync(join(this.#dir, id))) this.#moved(join(this.#dir, name), join(this.#dir, id));
    }
  }

  /** On disk when it returns. @returns false when someone else was faster */
  #moved(from: string, to: string): boolean {
    const done = this.#renamed(from, to);
    if (done) syncFolder(this.#dir);
    return done;
  }

  #renamed(from: string, to: string): boolean {
    try {
      renameSync(from, to);
      return true;
    } catch (error) {
      if (failsWith(error, "ENOENT")) return false;
      throw error;
    }
  }
}
