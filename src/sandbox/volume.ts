/** The handle to a volume: a disk with a name that outlives sandboxes. */
import type { VolumeInfo, VolumeMount } from "../contract/routes/volumes.ts";
import type { SandboxHost } from "../contract/routes.ts";
import { isWarrenError, WarrenError } from "../errors.ts";
import { defaultHost } from "./default-host.ts";

export interface VolumeOptions {
  /** Letters, digits, `-` and `_`. */
  readonly name: string;
  /** GiB that the volume may hold; on the host's disk it takes what is written. A fraction is fine. */
  readonly sizeGb: number;
}

export interface MountOptions {
  /** Any number of sandboxes may read a volume at once, or one may write it. Default false. */
  readonly readOnly?: boolean;
}

/**
 * @example
 * const volume = await Volume.getOrCreate({ name: "data", sizeGb: 2 });
 * await using sb = await Sandbox.create({ volumes: [volume.mount("/workspace")] });
 */
export class Volume {
  readonly name: string;
  readonly #host: SandboxHost;

  /** A handle without asking whether there is such a volume; see {@link Volume.get}. */
  constructor(host: SandboxHost, name: string) {
    this.#host = host;
    this.name = name;
  }

  /** The volume of this name, made when there is none; one that is there keeps its size. */
  static async getOrCreate(options: VolumeOptions, host?: SandboxHost): Promise<Volume> {
    const on = host ?? (await defaultHost());
    const { name } = options;
    try {
      await on.createVolume({ name, sizeMb: mib(options.sizeGb) });
    } catch (cause) {
      if (!isWarrenError(cause, "already_exists")) throw cause;
    }
    return new Volume(on, name);
  }

  /** @throws {WarrenError} `already_exists`, `storage_exhausted` */
  static async create(options: VolumeOptions, host?: SandboxHost): Promise<Volume> {
    const on = host ?? (await defaultHost());
    const { name } = await on.createVolume({ name: options.name, sizeMb: mib(options.sizeGb) });
    return new Volume(on, name);
  }

  /** @throws {WarrenError} `not_found` */
  static async get(name: string, host?: SandboxHost): Promise<Volume> {
    const on = host ?? (await defaultHost());
    return new Volume(on, (await on.getVolume({ name })).name);
  }

  /** By name. */
  static async list(host?: SandboxHost): Promise<VolumeInfo[]> {
    return (host ?? (await defaultHost())).volumes({});
  }

  /** For `volumes` of `Sandbox.create`. */
  mount(path?: string, { readOnly = false }: MountOptions = {}): VolumeMount {
    return { name: this.name, readOnly, ...(path === undefined ? {} : { mount: path }) };
  }

  /** Size, what it takes on the host's disk, and which sandboxes have it. */
  info(): Promise<VolumeInfo> {
    return this.#host.getVolume({ name: this.name });
  }

  /** Larger only: at once where it is attached for writing, else when it next is. */
  resize({ sizeGb }: Pick<VolumeOptions, "sizeGb">): Promise<VolumeInfo> {
    return this.#host.resizeVolume({ name: this.name, sizeMb: mib(sizeGb) });
  }

  /** Deletes it and all in it. @throws {WarrenError} `volume_in_use` – a sandbox has it */
  remove(): Promise<void> {
    return this.#host.removeVolume({ name: this.name });
  }
}

/** @throws {WarrenError} `invalid_request` – not a size in whole MiB */
function mib(sizeGb: number): number {
  const size = sizeGb * 1024;
  if (Number.isInteger(size)) return size;
  throw new WarrenError("invalid_request", `sizeGb: got ${sizeGb}, allowed are whole MiB, each a 1024th of it`, {
    details: { field: "sizeGb", got: sizeGb },
  });
}
