/**
 * Templates of a home: those with a recipe, and snapshots that were made templates of a name of their own. A recipe's name
 * is never taken. A promoted template has one size; it cannot be baked again, so it is never thrown away to be.
 */
import type { BakeEvent, TemplateInfo } from "../contract/routes/templates.ts";
import type { HeldPoint } from "../engine/snapshots.ts";
import type { OpenTemplate, TemplateSize, TemplateStore } from "../engine/templates.ts";
import { isWarrenError, WarrenError } from "../errors.ts";
import type { Saved, Shelf } from "./shelf.ts";

export class PromotedTemplates implements TemplateStore {
  readonly #recipes: TemplateStore;
  readonly #shelf: Shelf;
  /** Open for the life of the process, as templates are. */
  readonly #open = new Map<string, HeldPoint>();
  readonly #removed: HeldPoint[] = [];

  constructor(recipes: TemplateStore, shelf: Shelf) {
    this.#recipes = recipes;
    this.#shelf = shelf;
  }

  async list(): Promise<TemplateInfo[]> {
    const promoted = this.#shelf.list().map(({ meta, size, info, digest, accel }): TemplateInfo => {
      const { cpu, memoryMib: memoryMb } = size;
      const { memoryBytes, diskBytes } = info;
      const sizeBytes = info.sizeBytes - diskBytes;
      return {
        name: meta.id,
        description: `made of a snapshot, with ${bytes(memoryBytes)} of memory of its own`,
        baked: [{ cpu, memoryMb, digest, sizeBytes, bakedAt: meta.createdAt, accel }],
        diskBytes,
      };
    });
    return [...(await this.#recipes.list()), ...promoted];
  }

  has(name: string): boolean {
    return this.#recipes.has(name) || this.#find(name) !== null;
  }

  defaults(name: string): { readonly cpu: number; readonly memoryMib: number } {
    return this.#find(name)?.size ?? this.#recipes.defaults(name);
  }

  async open(size: TemplateSize, onStep?: (event: BakeEvent) => void, signal?: AbortSignal): Promise<OpenTemplate> {
    const found = this.#find(size.name);
    if (found === null) return this.#recipes.open(size, onStep, signal);
    refuseOtherSize(found.size, size);
    const opened = this.#open.get(size.name) ?? (await this.#shelf.open(size.name, signal));
    if (opened === null) return this.#recipes.open(size, onStep, signal); // removed meanwhile: says that there is none
    const first = this.#open.get(size.name);
    if (first !== undefined && first !== opened) opened[Symbol.dispose]();
    else this.#open.set(size.name, opened);
    return first ?? opened;
  }

  async bake(
    size: TemplateSize,
    force: boolean,
    onStep: (event: BakeEvent) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const found = this.#find(size.name);
    if (found === null) return this.#recipes.bake(size, force, onStep, signal);
    refuseOtherSize(found.size, size);
    if (!force) return;
    const says = `template ${size.name} was made of a snapshot and cannot be built again`;
    throw new WarrenError("invalid_request", says, { details: { field: "force", got: true, allowed: false } });
  }

  async remove(name: string): Promise<void> {
    if (this.#find(name) === null) return this.#recipes.remove(name);
    const opened = this.#open.get(name);
    if (opened !== undefined) this.#removed.push(opened); // a create may be about to stand on it
    this.#open.delete(name);
    await this.#shelf.discard(name);
  }

  close(): void {
    for (const point of [...this.#open.values(), ...this.#removed.splice(0)]) point[Symbol.dispose]();
    this.#open.clear();
    this.#recipes.close();
  }

  #find(name: string): Saved | null {
    if (this.#recipes.has(name)) return null;
    try {
      return this.#shelf.find(name);
    } catch (error) {
      if (isWarrenError(error, "snapshot_invalid")) throw invalid(name, error);
      throw error;
    }
  }
}

function bytes(count: number): string {
  return `${(count / 2 ** 20).toFixed(1)} MiB`;
}

function invalid(name: string, cause: WarrenError): WarrenError {
  return new WarrenError("snapshot_invalid", `template ${name}: ${cause.message}`, { details: cause.details, cause });
}

/** @throws {WarrenError} `invalid_request` – naming the field */
function refuseOtherSize(own: TemplateSize, asked: TemplateSize): void {
  for (const [field, got, allowed] of [
    ["cpu", asked.cpu, own.cpu],
    ["memoryMb", asked.memoryMib, own.memoryMib],
  ] as const) {
    if (got === allowed) continue;
    const says = `${field}: got ${got}, and template ${asked.name}, made of a snapshot, has ${allowed} alone`;
    throw new WarrenError("invalid_request", says, { details: { field, got, allowed } });
  }
}
