/**
 * The memory that snapshots have below their own layers: a template's. One file a digest, shared by hard links, so that the
 * number of links says who refers to it; and in this process one sealed memory a digest, the open template's where it is open.
 */
import { closeSync, constants, fsyncSync, linkSync, mkdirSync, openSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { isWarrenError } from "../errors.ts";
import { partialOf, removePartials } from "../host/home/publish.ts";
import type { Layer } from "../host/host.ts";
import { HeldLayer, runsOf } from "../host/layers.ts";
import { digestSparse, reflink } from "../host/memory.ts";
import { loadMemory, type TemplateMemory } from "../template/loaded.ts";
import { copyWhole, failsWith, namesIn } from "./files.ts";
import { damaged } from "./manifest.ts";

/** What of the open templates matters here. */
export interface Memories {
  readonly memories: readonly TemplateMemory[];
}

const BASE = /^[0-9a-f]{16}-\d+$/;
/** How often a base that is removed as nobody's, just as it becomes somebody's, is written again. */
const TRIES = 3;

export class Bases {
  readonly #dir: string;
  readonly #templates: Memories;
  readonly #shares: boolean;
  readonly #digests = new WeakMap<Layer, string>();
  readonly #loaded = new Map<string, Promise<Layer>>();

  /** @param shares the file system reflinks */
  constructor(dir: string, templates: Memories, shares: boolean) {
    this.#dir = dir;
    this.#templates = templates;
    this.#shares = shares;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  }

  /** Makes `path` a link to the file of this base, written when there is none yet. @returns its digest */
  async link(layer: Layer, sizeBytes: number, path: string): Promise<string> {
    const known = this.#templates.memories.find((memory) => memory.layer.fd === layer.fd);
    const xxh3 = known?.xxh3 ?? this.#digests.get(layer) ?? (await digestSparse(layer.fd, sizeBytes));
    this.#digests.set(layer, xxh3);
    const file = this.#file(xxh3, sizeBytes);
    for (let tries = 1; ; tries++) {
      try {
        linkSync(file, path);
        return xxh3;
      } catch (error) {
        if (!failsWith(error, "ENOENT") || tries > TRIES) throw error;
        await this.#write(file, layer, sizeBytes, known?.path);
      }
    }
  }

  /** The base as sealed memory; the caller holds it. @throws {WarrenError} `snapshot_invalid`, `capacity_exhausted` */
  async open(path: string, sizeBytes: number, xxh3: string, id: string): Promise<Layer> {
    const template = this.#templates.memories.find((memory) => memory.xxh3 === xxh3);
    if (template !== undefined) {
      template.layer.hold();
      return template.layer;
    }
    const key = `${xxh3} ${sizeBytes}`;
    const pending = this.#loaded.get(key);
    if (pending !== undefined) {
      const held = await pending;
      if (this.#loaded.get(key) !== pending) return this.open(path, sizeBytes, xxh3, id); // its last holder has just left
      held.hold();
      return held;
    }
    const loading = this.#load(key, path, { bytes: sizeBytes, xxh3 }, id);
    this.#loaded.set(key, loading);
    loading.catch(() => this.#loaded.delete(key));
    return await loading;
  }

  /** Removes what no snapshot links to. @returns how many */
  collect(): number {
    let removed = 0;
    removePartials(this.#dir);
    for (const name of namesIn(this.#dir).filter((found) => BASE.test(found))) {
      const path = join(this.#dir, name);
      // A link that is made right now fails, and its maker writes the file again.
      if (statSync(path, { throwIfNoEntry: false })?.nlink !== 1) continue;
      rmSync(path, { force: true });
      removed += 1;
    }
    return removed;
  }

  #file(xxh3: string, sizeBytes: number): string {
    return join(this.#dir, `${xxh3}-${sizeBytes}`);
  }

  async #load(key: string, path: string, expected: { bytes: number; xxh3: string }, id: string): Promise<Layer> {
    if (statSync(path, { throwIfNoEntry: false })?.size !== expected.bytes) {
      throw damaged(id, "the memory it stands on is missing, or has another size");
    }
    const fd = await loadMemory(path, expected).catch((cause: unknown) => {
      throw isWarrenError(cause, "template_invalid") ? damaged(id, "the memory it stands on is another") : cause;
    });
    const layer = new HeldLayer(fd, runsOf(fd, expected.bytes));
    let holds = 1;
    return {
      fd,
      runs: layer.runs,
      hold: () => {
        layer.hold();
        holds += 1;
      },
      release: () => {
        holds -= 1;
        if (holds === 0) this.#loaded.delete(key);
        layer.release();
      },
    };
  }

  async #write(file: string, layer: Layer, sizeBytes: number, source?: string): Promise<void> {
    const partial = partialOf(file);
    try {
      const fd = openSync(partial, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
      try {
        if (!this.#reflinked(source, fd)) {
          await copyWhole(layer.fd, fd, sizeBytes);
        }
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(partial, file);
    } catch (error) {
      rmSync(partial, { force: true });
      throw error;
    }
  }

  #reflinked(source: string | undefined, fd: number): boolean {
    if (source === undefined || !this.#shares || statSync(source, { throwIfNoEntry: false }) === undefined)
      return false;
    const from = openSync(source, constants.O_RDONLY);
    try {
      reflink(from, fd);
      return true;
    } finally {
      closeSync(from);
    }
  }
}
