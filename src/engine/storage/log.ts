/**
 * What this process's engine puts on disk and takes from it, as rows for billing: stores that are wrapped in it tell it of
 * every change that has succeeded. It keeps the newest rows; whoever needs all of them subscribes.
 */
import type { Clock } from "../../base/clock.ts";
import { nonce } from "../../base/id.ts";
import type { Log } from "../../base/log.ts";
import type { Stored, StoredKind } from "../../contract/stored.ts";
import { LIMITS } from "../../limits.ts";
import type { SnapshotStore } from "../snapshots.ts";
import type { TemplateStore } from "../templates.ts";
import type { VolumeStore } from "../volumes/store.ts";

export type StoredListener = (row: Stored) => void;

export class StorageLog {
  readonly #clock: Clock;
  readonly #log: Log;
  #rows: Stored[] = [];
  readonly #listeners = new Set<StoredListener>();

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  /** The newest rows, oldest first; at most `LIMITS.storedRows`. */
  all(): readonly Stored[] {
    return this.#rows;
  }

  /** Calls `listener` with every later row; it has to be quick. The result ends it. */
  subscribe(listener: StoredListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  append(kind: StoredKind, account: string, id: string, sizeBytes: number): void {
    const row = { kind, id, account, sizeBytes, monotonicMs: this.#clock.monotonicMs(), wallMs: this.#clock.wallMs() };
    if (this.#rows.length >= LIMITS.storedRows) this.#rows = this.#rows.slice(LIMITS.storedRows / 2);
    this.#rows.push(row);
    for (const listener of this.#listeners) {
      try {
        listener(row);
      } catch (cause) {
        this.#log.error("a listener of the storage log failed", { cause: String(cause) });
      }
    }
  }
}

/** The same store; what it keeps and gives up is logged. */
export function loggedSnapshots(store: SnapshotStore, log: StorageLog): SnapshotStore {
  const gone = async (id: string): Promise<void> => {
    const saved = await store.findImage(id);
    await store.removeImage(id);
    if (saved !== null) log.append("image", saved.meta.account, id, 0);
  };
  return {
    save: async (point, meta, signal) => {
      const info = await store.save(point, meta, signal);
      log.append("snapshot", meta.account, meta.id, info.sizeBytes);
      return info;
    },
    remove: async (account, id) => {
      const { meta } = await store.find(account, id);
      await store.remove(account, id);
      log.append("snapshot", account, meta.id, 0);
    },
    saveImage: async (point, meta, signal) => {
      const info = await store.saveImage(point, meta, signal);
      log.append("image", meta.account, meta.id, info.sizeBytes);
      return info;
    },
    takeImage: async (id) => {
      const image = await store.takeImage(id);
      if (image === null) return null;
      return {
        saved: image.saved,
        open: (signal) => image.open(signal),
        putBack: () => image.putBack(),
        consume: async () => {
          await image.consume();
          log.append("image", image.saved.meta.account, id, 0);
        },
      };
    },
    removeImage: gone,
    find: (account, id) => store.find(account, id),
    list: (account, sandboxId) => store.list(account, sandboxId),
    open: (account, id, signal) => store.open(account, id, signal),
    promote: async (account, id, name) => {
      const { info } = await store.find(account, id);
      await store.promote(account, id, name);
      log.append("template", account, name, info.sizeBytes);
    },
    collect: () => store.collect(),
    findImage: (id) => store.findImage(id),
    listImages: (account) => store.listImages(account),
  };
}

/**
 * The same store for one account's calls; what it builds, for how long, and what it keeps and gives up is logged. What a create has
 * built because it was missing is nobody's.
 */
export function loggedTemplates(
  store: TemplateStore,
  log: StorageLog,
  account: string,
): Pick<TemplateStore, "list" | "defaults" | "bake" | "remove"> {
  return {
    list: () => store.list(),
    defaults: (name) => store.defaults(name),
    bake: async (size, force, onStep, signal) => {
      const build = `${size.name}-${nonce()}`;
      let building = false; // what is there already is no build
      try {
        await store.bake(
          size,
          force,
          (event) => {
            if (!building) log.append("build", account, build, 1);
            building = true;
            onStep(event);
          },
          signal,
        );
      } finally {
        if (building) log.append("build", account, build, 0);
      }
      const made = building ? (await store.list()).find(({ name }) => name === size.name) : undefined;
      if (made !== undefined) log.append("template", account, made.name, made.diskBytes);
    },
    remove: async (name) => {
      await store.remove(name);
      log.append("template", account, name, 0);
    },
  };
}

/** The same store; what it keeps and gives up is logged, by the size that was asked for. */
export function loggedVolumes(store: VolumeStore, log: StorageLog): VolumeStore {
  return {
    create: async (account, name, sizeBytes) => {
      const volume = await store.create(account, name, sizeBytes);
      log.append("volume", account, name, volume.sizeBytes);
      return volume;
    },
    resize: async (account, name, sizeBytes) => {
      const volume = await store.resize(account, name, sizeBytes);
      log.append("volume", account, name, volume.sizeBytes);
      return volume;
    },
    remove: async (account, name) => {
      await store.remove(account, name);
      log.append("volume", account, name, 0);
    },
    list: (account) => store.list(account),
    find: (account, name) => store.find(account, name),
    open: (account, name, readOnly) => store.open(account, name, readOnly),
    fitted: (account, name, sizeBytes) => store.fitted(account, name, sizeBytes),
  };
}
