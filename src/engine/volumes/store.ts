/** What the engine needs of volumes: disks with names, opened for one writer or many readers of all processes of the home. */
import type { Medium } from "../../driver/driver.ts";

export interface SavedVolume {
  readonly name: string;
  readonly sizeBytes: number;
  /** Blocks that it takes on the host. */
  readonly usedBytes: number;
  /** RFC 3339, UTC. */
  readonly createdAt: string;
}

/** A volume that is locked for its reader or writer. Disposing gives up this process's part of the lock; a VMM that has the medium keeps it. */
export interface OpenVolume extends Disposable {
  readonly medium: Medium;
  /** The image has grown since its file system was last fitted to it. */
  readonly hasGrown: boolean;
}

export interface VolumeStore {
  /** By name. */
  list(account: string): Promise<SavedVolume[]>;
  /** @throws {WarrenError} `not_found` */
  find(account: string, name: string): Promise<SavedVolume>;
  /** There whole or not at all. @throws {WarrenError} `already_exists`, `storage_exhausted`, `capacity_exhausted`, `host_unsupported` */
  create(account: string, name: string, sizeBytes: number): Promise<SavedVolume>;
  /** @throws {WarrenError} `not_found`; `volume_in_use` – someone writes it, or one who wants to write finds it read */
  open(account: string, name: string, readOnly: boolean): Promise<OpenVolume>;
  /** Makes the image larger; its file system is a guest's affair. @throws {WarrenError} `not_found`, `invalid_request` – smaller */
  resize(account: string, name: string, sizeBytes: number): Promise<SavedVolume>;
  /** A guest has fitted the file system to this size. */
  fitted(account: string, name: string, sizeBytes: number): Promise<void>;
  /** @throws {WarrenError} `not_found`, `volume_in_use` */
  remove(account: string, name: string): Promise<void>;
}
