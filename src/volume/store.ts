/**
 * Volumes of a home, on files:
 *
 *     data/volumes/ACCOUNT/NAME/disk.ext4       the image, sparse
 *     data/volumes/ACCOUNT/NAME/manifest.json   what is known of it
 *
 * A volume appears and goes by a rename. Nobody is believed to use one but who holds its image's lock.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { nonce } from "../base/id.ts";
import { Mailbox } from "../base/mailbox.ts";
import type { OpenVolume, SavedVolume, VolumeStore } from "../engine/volumes/store.ts";
import { isWarrenError, WarrenError } from "../errors.ts";
import { type Data, volumesIn } from "../host/home/data.ts";
import { locked } from "../host/home/disk.ts";
import { partialOf } from "../host/home/publish.ts";
import {
  allocatedBytes,
  closeVolumeImage,
  growVolumeImage,
  makeVolumeImage,
  openScratch,
  openVolumeImage,
} from "../host/home/volume-files.ts";
import { LIMITS } from "../limits.ts";
import { hasErrno } from "./errno.ts";

interface Manifest {
  readonly name: string;
  readonly account: string;
  readonly sizeBytes: number;
  /** What its file system was last fitted to. */
  readonly fittedBytes: number;
  readonly createdAt: string;
}

export interface FileVolumesParts {
  readonly data: Pick<Data, "dir" | "ensureRoom">;
  readonly clock: Clock;
}

export interface VolumeSurvey {
  readonly volumes: number;
  readonly usedBytes: number;
  /** What they may grow to. */
  readonly sizeBytes: number;
  /** Folders without a manifest or an image. */
  readonly damaged: readonly string[];
}

const NAME = /^[a-z0-9][a-z0-9_-]{0,62}$/;
const IMAGE = "disk.ext4";
const MANIFEST = "manifest.json";

export class FileVolumes implements VolumeStore {
  readonly #parts: FileVolumesParts;
  /** Changes of a manifest in this process, one after another; the lock file is for other processes. */
  readonly #changes = new Mailbox<string>();

  constructor(parts: FileVolumesParts) {
    this.#parts = parts;
  }

  async list(account: string): Promise<SavedVolume[]> {
    const dir = this.#accountDir(account);
    const names = existsSync(dir) ? readdirSync(dir).filter((name) => NAME.test(name)) : [];
    const all = names.sort().map((name) => this.#saved(join(dir, name)));
    return all.filter((volume) => volume !== null);
  }

  /** What this home keeps, of all accounts. */
  survey(): VolumeSurvey {
    const dir = volumesIn(this.#parts.data.dir);
    const paths = readdirSync(dir).flatMap((account) =>
      readdirSync(join(dir, account))
        .filter((name) => NAME.test(name))
        .map((name) => join(dir, account, name)),
    );
    const sum = { volumes: 0, usedBytes: 0, sizeBytes: 0, damaged: [] as string[] };
    for (const path of paths) {
      const saved = this.#saved(path);
      if (saved === null) sum.damaged.push(path.slice(dir.length + 1));
      else {
        sum.volumes += 1;
        sum.usedBytes += saved.usedBytes;
        sum.sizeBytes += saved.sizeBytes;
      }
    }
    return sum;
  }

  async find(account: string, name: string): Promise<SavedVolume> {
    const found = this.#saved(this.#dir(account, name));
    if (found === null) throw unknown(name);
    return found;
  }

  async create(account: string, name: string, sizeBytes: number): Promise<SavedVolume> {
    const dir = this.#dir(account, name);
    if (existsSync(dir)) throw taken(name);
    if ((await this.list(account)).length >= LIMITS.volumes) {
      throw new WarrenError("capacity_exhausted", `there are ${LIMITS.volumes} volumes already: remove one first`);
    }
    await this.#parts.data.ensureRoom();
    const createdAt = new Date(this.#parts.clock.wallMs()).toISOString();
    const partial = partialOf(dir);
    mkdirSync(partial, { recursive: true, mode: 0o700 });
    try {
      await makeVolumeImage(join(partial, IMAGE), sizeBytes);
      await writeManifest(partial, { name, account, sizeBytes, fittedBytes: sizeBytes, createdAt });
      renameSync(partial, dir);
    } catch (cause) {
      rmSync(partial, { recursive: true, force: true });
      if (hasErrno(cause, "ENOTEMPTY", "EEXIST")) throw taken(name);
      if (hasErrno(cause, "ENOSPC", "EDQUOT")) {
        throw new WarrenError("storage_exhausted", `no space for the volume ${name}`, { cause });
      }
      throw cause;
    }
    return this.find(account, name);
  }

  async open(account: string, name: string, readOnly: boolean): Promise<OpenVolume> {
    const dir = this.#dir(account, name);
    const fds: number[] = [];
    const close = () => {
      for (const fd of fds.splice(0)) closeVolumeImage(fd);
    };
    try {
      const fd = openVolumeImage(join(dir, IMAGE), readOnly ? "read" : "write");
      if (fd === null) throw inUse(name, readOnly);
      fds.push(fd);
      const manifest = readManifest(dir);
      if (manifest === null) throw unknown(name);
      if (!readOnly) await this.#roomFor(manifest.sizeBytes - allocatedBytes(join(dir, IMAGE)));
      const scratchFd = readOnly ? openScratch(dir) : null;
      if (scratchFd !== null) fds.push(scratchFd);
      const { sizeBytes, fittedBytes } = manifest;
      return { medium: { fd, sizeBytes, scratchFd }, hasGrown: fittedBytes < sizeBytes, [Symbol.dispose]: close };
    } catch (cause) {
      close();
      throw hasErrno(cause, "ENOENT") ? unknown(name) : cause;
    }
  }

  async resize(account: string, name: string, sizeBytes: number): Promise<SavedVolume> {
    const dir = this.#dir(account, name);
    await this.#change(dir, name, (manifest) => {
      if (sizeBytes < manifest.sizeBytes) {
        const [got, min] = [sizeBytes, manifest.sizeBytes].map((bytes) => bytes / 2 ** 20);
        throw new WarrenError("invalid_request", `sizeMb: a volume only grows: got ${got}, it has ${min}`, {
          details: { field: "sizeMb", got, min },
        });
      }
      growVolumeImage(join(dir, IMAGE), sizeBytes);
      return { ...manifest, sizeBytes };
    });
    return this.find(account, name);
  }

  async fitted(account: string, name: string, sizeBytes: number): Promise<void> {
    await this.#change(this.#dir(account, name), name, (manifest) => ({ ...manifest, fittedBytes: sizeBytes }));
  }

  async remove(account: string, name: string): Promise<void> {
    const dir = this.#dir(account, name);
    const gone = partialOf(dir);
    let fd: number | null = null;
    try {
      fd = openVolumeImage(join(dir, IMAGE), "write");
      if (fd === null) throw inUse(name, false);
      renameSync(dir, gone);
      rmSync(gone, { recursive: true, force: true });
    } catch (cause) {
      throw hasErrno(cause, "ENOENT") ? unknown(name) : cause;
    } finally {
      if (fd !== null) closeVolumeImage(fd);
    }
  }

  /** A data image grows before a volume fills it. Volumes may promise more than the disk has, which is doctor's to tell. */
  async #roomFor(bytes: number): Promise<void> {
    try {
      await this.#parts.data.ensureRoom(bytes);
    } catch (cause) {
      if (!isWarrenError(cause, "storage_exhausted")) throw cause;
    }
  }

  /** Replaces a manifest, whole or not at all, while nobody else does. */
  #change(dir: string, name: string, change: (manifest: Manifest) => Manifest): Promise<void> {
    return this.#changes.run(dir, async () => {
      try {
        await locked(join(dir, "lock"), this.#parts.clock, async () => {
          const manifest = readManifest(dir);
          if (manifest === null) throw unknown(name);
          await writeManifest(dir, change(manifest));
        });
      } catch (cause) {
        throw !isWarrenError(cause) && hasErrno(cause, "ENOENT") ? unknown(name) : cause;
      }
    });
  }

  #accountDir(account: string): string {
    return join(volumesIn(this.#parts.data.dir), folderOf(account));
  }

  /** @throws {WarrenError} `not_found` – what cannot be a name names nothing */
  #dir(account: string, name: string): string {
    if (!NAME.test(name)) throw unknown(name);
    return join(this.#accountDir(account), name);
  }

  #saved(dir: string): SavedVolume | null {
    const manifest = readManifest(dir);
    if (manifest === null) return null;
    try {
      const { name, sizeBytes, createdAt } = manifest;
      return { name, sizeBytes, createdAt, usedBytes: allocatedBytes(join(dir, IMAGE)) };
    } catch (cause) {
      if (hasErrno(cause, "ENOENT")) return null; // removed meanwhile
      throw cause;
    }
  }
}

/** A folder's name for any account, and another for each. */
function folderOf(account: string): string {
  if (NAME.test(account)) return `n-${account}`;
  return `h-${new Bun.CryptoHasher("sha256").update(account).digest("hex")}`;
}

function readManifest(dir: string): Manifest | null {
  try {
    // Only root can write here, so the shape is trusted; it is replaced by rename, so it is never half of one.
    return JSON.parse(readFileSync(join(dir, MANIFEST), "utf8")) as Manifest;
  } catch (cause) {
    if (hasErrno(cause, "ENOENT", "ENOTDIR")) return null;
    throw cause;
  }
}

async function writeManifest(dir: string, manifest: Manifest): Promise<void> {
  const partial = join(dir, `.${MANIFEST}-${nonce()}`);
  await Bun.write(partial, JSON.stringify(manifest), { createPath: false, mode: 0o600 });
  renameSync(partial, join(dir, MANIFEST));
}

function unknown(name: string): WarrenError {
  return new WarrenError("not_found", `there is no volume ${name}`, { details: { field: "name", name } });
}

function taken(name: string): WarrenError {
  return new WarrenError("already_exists", `there is a volume ${name} already`, { details: { field: "name", name } });
}

function inUse(name: string, readOnly: boolean): WarrenError {
  const by = readOnly ? "is being written by a sandbox" : "is in use by a sandbox";
  return new WarrenError("volume_in_use", `the volume ${name} ${by}`, { details: { field: "name", name } });
}
