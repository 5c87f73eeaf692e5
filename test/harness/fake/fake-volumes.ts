/** Volumes in memory: who has one is told by the drives of the fake VMMs, as the real lock is the real VMM's. */
import type { FakeDriver } from "../../../src/driver/fake.ts";
import type { OpenVolume, SavedVolume, VolumeStore } from "../../../src/engine/volumes/store.ts";
import { WarrenError } from "../../../src/errors.ts";

interface Kept {
  readonly volume: SavedVolume;
  readonly fittedBytes: number;
}

let nextFd = 2_000_000;

export class FakeVolumes implements VolumeStore {
  readonly #driver: FakeDriver;
  readonly #kept = new Map<string, Kept>();
  /** Every descriptor ever handed out: of which volume, and how. */
  readonly #handed = new Map<number, { readonly key: string; readonly readOnly: boolean }>();
  /** Those of this process that are not given back; empty when nothing leaks. */
  readonly opened = new Set<number>();
  /** Runs before anything takes room on disk; may throw. */
  growing: () => void = () => undefined;

  constructor(driver: FakeDriver) {
    this.#driver = driver;
  }

  async list(account: string): Promise<SavedVolume[]> {
    const own = [...this.#kept].filter(([key]) => key.startsWith(`${account}/`));
    return own.map(([, { volume }]) => volume).sort((a, b) => a.name.localeCompare(b.name));
  }

  async find(account: string, name: string): Promise<SavedVolume> {
    return this.#known(account, name).volume;
  }

  async create(account: string, name: string, sizeBytes: number): Promise<SavedVolume> {
    const key = `${account}/${name}`;
    if (this.#kept.has(key)) throw new WarrenError("already_exists", `there is a volume ${name} already`);
    this.growing();
    const volume = { name, sizeBytes, usedBytes: 4096, createdAt: new Date(0).toISOString() };
    this.#kept.set(key, { volume, fittedBytes: sizeBytes });
    return volume;
  }

  async open(account: string, name: string, readOnly: boolean): Promise<OpenVolume> {
    const { volume, fittedBytes } = this.#known(account, name);
    const key = `${account}/${name}`;
    if (this.#users(key).some((user) => !user.readOnly || !readOnly)) throw inUse(name);
    this.growing();
    const fd = nextFd++;
    this.#handed.set(fd, { key, readOnly });
    this.opened.add(fd);
    return {
      medium: { fd, sizeBytes: volume.sizeBytes, scratchFd: readOnly ? nextFd++ : null },
      hasGrown: fittedBytes < volume.sizeBytes,
      [Symbol.dispose]: () => void this.opened.delete(fd),
    };
  }

  async resize(account: string, name: string, sizeBytes: number): Promise<SavedVolume> {
    const known = this.#known(account, name);
    if (sizeBytes < known.volume.sizeBytes) {
      throw new WarrenError("invalid_request", "sizeMb: a volume only grows", { details: { field: "sizeMb" } });
    }
    this.growing();
    this.#kept.set(`${account}/${name}`, { ...known, volume: { ...known.volume, sizeBytes } });
    return this.find(account, name);
  }

  async fitted(account: string, name: string, sizeBytes: number): Promise<void> {
    this.#kept.set(`${account}/${name}`, { ...this.#known(account, name), fittedBytes: sizeBytes });
  }

  async remove(account: string, name: string): Promise<void> {
    this.#known(account, name);
    if (this.#users(`${account}/${name}`).length > 0) throw inUse(name);
    this.#kept.delete(`${account}/${name}`);
  }

  #known(account: string, name: string): Kept {
    const kept = this.#kept.get(`${account}/${name}`);
    if (kept !== undefined) return kept;
    throw new WarrenError("not_found", `there is no volume ${name}`, { details: { field: "name", name } });
  }

  #users(key: string): { readonly readOnly: boolean }[] {
    const inDrives = [...this.#driver.machines.values()].flatMap((vmm) => [...vmm.media.values()].map(({ fd }) => fd));
    const fds = new Set([...inDrives, ...this.opened]);
    return [...fds].flatMap((fd) => this.#handed.get(fd) ?? []).filter((user) => user.key === key);
  }
}

function inUse(name: string): WarrenError {
  return new WarrenError("volume_in_use", `the volume ${name} is in use`, { details: { field: "name", name } });
}
