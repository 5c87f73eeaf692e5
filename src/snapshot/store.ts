/**
 * Durable snapshots of a home. A snapshot's folder holds all that it needs but what is shared with others by blocks or links,
 * so that each can be removed by itself, and templates too.
 *
 *     data/snapshots/<id>/            manifest.json memory-0 memory-1 … state disk
 *     data/snapshots/.bases/<xxh3>    memory of templates, each once; memory-0 of each snapshot is a link to one
 *     data/hibernated/<sandbox id>/   the same, of one sandbox that sleeps
 *     data/promoted/<name>/           the same, a template by links to what a snapshot is made of
 */
import { join } from "node:path";
import type { SnapshotInfo } from "../contract/routes/snapshots.ts";
import type { HeldPoint, SavedSnapshot, SnapshotMeta, SnapshotStore, TakenImage } from "../engine/snapshots.ts";
import type { OpenTemplate, TemplateStore } from "../engine/templates.ts";
import { WarrenError } from "../errors.ts";
import { Bases, type Memories } from "./bases.ts";
import { Images } from "./images.ts";
import type { Ground } from "./manifest.ts";
import { PromotedTemplates } from "./promoted.ts";
import { Shelf, type ShelfParts } from "./shelf.ts";

export interface SnapshotsOptions {
  /** Directory of the home's data. */
  readonly dataDir: string;
  /** False where its file system cannot reflink. */
  readonly shares: boolean;
  readonly templates: Memories & { ground(): Promise<Ground>; has(name: string): boolean };
  /** Told what has just been written; for tests that end the process there. */
  readonly step?: (name: string) => void;
}

export class Snapshots implements SnapshotStore {
  readonly #bases: Bases;
  readonly #kept: Shelf;
  readonly #images: Images;
  readonly #promoted: Shelf;
  readonly #hasRecipe: (name: string) => boolean;

  constructor({ dataDir, shares, templates, step = () => undefined }: SnapshotsOptions) {
    const dir = join(dataDir, "snapshots");
    this.#bases = new Bases(join(dir, ".bases"), templates, shares);
    const verified = new Set<string>();
    const parts = async (): Promise<ShelfParts> => {
      return { bases: this.#bases, ground: await templates.ground(), shares, step, verified };
    };
    this.#kept = new Shelf(dir, parts);
    this.#promoted = new Shelf(join(dataDir, "promoted"), parts);
    this.#hasRecipe = (name) => templates.has(name);
    this.#images = new Images(join(dataDir, "hibernated"), parts);
  }

  save(point: OpenTemplate, meta: SnapshotMeta, signal?: AbortSignal): Promise<SnapshotInfo> {
    return this.#kept.save(point, meta, signal);
  }

  async find(account: string, idOrName: string): Promise<SavedSnapshot> {
    const byId = this.#kept.find(idOrName);
    if (byId?.meta.account === account) return byId;
    const byName = this.#kept.list().find(({ meta }) => meta.account === account && meta.name === idOrName);
    if (byName !== undefined) return byName;
    throw notFound(idOrName);
  }

  async list(account: string, sandboxId?: string): Promise<SavedSnapshot[]> {
    const all = this.#kept.list().filter(({ meta }) => meta.account === account);
    return all.filter(({ meta }) => (sandboxId ?? meta.sandboxId) === meta.sandboxId);
  }

  async open(account: string, idOrName: string, signal?: AbortSignal): Promise<HeldPoint> {
    const { meta } = await this.find(account, idOrName);
    const point = await this.#kept.open(meta.id, signal);
    if (point === null) throw notFound(idOrName);
    return point;
  }

  async remove(account: string, id: string): Promise<void> {
    const { meta } = await this.find(account, id);
    if (!(await this.#kept.remove(meta.id))) throw notFound(id);
    this.#bases.collect();
  }

  async promote(account: string, id: string, name: string): Promise<void> {
    const { meta } = await this.find(account, id);
    if (this.#hasRecipe(name)) {
      const says = `there is a template ${name} already`;
      throw new WarrenError("already_exists", says, { details: { field: "name", got: name } });
    }
    await this.#kept.promoteTo(this.#promoted, meta.id, name);
  }

  /** These templates and the promoted ones. */
  with(recipes: TemplateStore): PromotedTemplates {
    return new PromotedTemplates(recipes, this.#promoted);
  }

  /** What is kept, for people. */
  survey() {
    const kept = this.#kept.list();
    return {
      snapshots: kept.length,
      sizeBytes: kept.reduce((sum, { info }) => sum + info.sizeBytes, 0),
      hibernated: this.#images.list().length,
      damaged: this.#kept.damaged(),
    };
  }

  async collect(): Promise<number> {
    this.#promoted.collect();
    this.#kept.collect();
    this.#images.collect();
    return this.#bases.collect();
  }

  saveImage(point: OpenTemplate, meta: SnapshotMeta, signal?: AbortSignal): Promise<SnapshotInfo> {
    return this.#images.save(point, meta, signal);
  }

  async findImage(sandboxId: string): Promise<SavedSnapshot | null> {
    return this.#images.find(sandboxId);
  }

  async listImages(account: string): Promise<SavedSnapshot[]> {
    return this.#images.list().filter(({ meta }) => meta.account === account);
  }

  takeImage(sandboxId: string): Promise<TakenImage | null> {
    return this.#images.take(sandboxId);
  }

  async removeImage(sandboxId: string): Promise<void> {
    await this.#images.remove(sandboxId);
    this.#bases.collect();
  }
}

function notFound(id: string): WarrenError {
  return new WarrenError("not_found", `there is no snapshot ${id}`, { details: { id } });
}
