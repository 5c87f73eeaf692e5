/** What the engine needs of templates: a snapshot of a size, baked when it is missing, kept open while it is used. */
import type { BakeEvent, TemplateInfo } from "../contract/routes/templates.ts";
import type { Machine } from "../driver/driver.ts";
import type { Snapshot } from "../host/host.ts";

export interface TemplateSize {
  readonly name: string;
  readonly cpu: number;
  readonly memoryMib: number;
}

/** What clones are restored from: a template's snapshot, or a point in a sandbox's life. */
export interface OpenTemplate {
  readonly size: TemplateSize;
  readonly machine: Machine;
  readonly snapshot: Snapshot;
  /** Digest of the published unit: RAM, device state, disk, VMM and firmware of one pause. */
  readonly digest: string;
  /** MiB that a clone of it was measured to dirty, guest and VMM together; what admission counts per clone. */
  readonly workingSetMib: number;
  /** The template whose RAM is the lowest layer; none when that is no longer told. */
  readonly base?: TemplateSize & { readonly digest: string };
  /** Keeps its descriptors open until what it returns is called, once. */
  hold(): () => void;
  /** Modules that the warm interpreter has imported; empty when the template has none. */
  readonly warm: boolean;
}

export interface TemplateStore {
  list(): Promise<TemplateInfo[]>;
  has(name: string): boolean;
  /** The default size of a template, for a create that names none. */
  defaults(name: string): { readonly cpu: number; readonly memoryMib: number };
  /**
   * Opens a size, baking it first when it is missing or no longer fits this host. Stays open for the process's life:
   * the sealed memfd is shared by all clones.
   * @throws {WarrenError} `template_not_found`, `bake_failed`, `storage_exhausted`, `host_unsupported`, `cancelled`
   */
  open(size: TemplateSize, onStep?: (event: BakeEvent) => void, signal?: AbortSignal): Promise<OpenTemplate>;
  /** Builds again from nothing when `force`, else only what is missing. */
  bake(size: TemplateSize, force: boolean, onStep: (event: BakeEvent) => void, signal?: AbortSignal): Promise<void>;
  /** @throws {WarrenError} `template_not_found` */
  remove(name: string): Promise<void>;
  close(): void;
}
