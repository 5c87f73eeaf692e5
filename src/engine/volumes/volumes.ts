/**
 * Volumes of sandboxes of this process: opened with their lock, put into a drive of the VMM, mounted in the guest; and back.
 * The lock is the VMM's from the moment it has the medium, so nothing here has to be undone when a sandbox ends.
 */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { CallOptions } from "../../contract/route.ts";
import type { SandboxInfo } from "../../contract/routes/sandboxes.ts";
import type { AttachedVolume, VolumeInfo, VolumeMount } from "../../contract/routes/volumes.ts";
import { WarrenError } from "../../errors.ts";
import { flushDrives, growDrive, mountDrive, unmountDrive } from "../../guest/mount/mount.ts";
import { LIMITS } from "../../limits.ts";
import type { AwakeClone } from "../create/clone.ts";
import { isTerminal, type Lifecycle } from "../lifecycle.ts";
import type { Live } from "../live.ts";
import { notRunning } from "../reached.ts";
import type { Registry } from "../registry.ts";
import { type Placed, placeFor } from "./places.ts";
import type { OpenVolume, SavedVolume, VolumeStore } from "./store.ts";

const MIB = 2 ** 20;

export interface VolumesParts {
  readonly volumes: VolumeStore;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Log;
}

/** Runs a job on a sandbox while no other changes it as a whole. */
type Alone = <T>(live: Live, job: () => Promise<T>) => Promise<T>;

/** Volumes that a sandbox has; while there are any it can be neither forked nor saved. */
export function attachedVolumes(live: Live): AttachedVolume[] {
  return [...live.volumes.values()].map(({ name, mount, readOnly }) => ({ name, mount, readOnly }));
}

/** A volume's disk is no part of a sandbox's own instant, and has one writer. @throws {WarrenError} `wrong_state` */
export function refuseAttached(live: Live): void {
  // The map is this process's; of a sandbox that another made its info tells.
  const volumes = [...new Set([...live.volumes.keys(), ...live.info.volumes.map(({ name }) => name)])];
  if (volumes.length === 0) return;
  const says = `sandbox ${live.id} has the volume ${volumes.join(", ")}: detach it first`;
  throw new WarrenError("wrong_state", says, { details: { id: live.id, volumes } });
}

export class Volumes {
  readonly #store: VolumeStore;
  readonly #registry: Registry;
  readonly #lifecycle: Lifecycle;
  readonly #alone: Alone;
  readonly #clock: Clock;
  readonly #log: Log;

  constructor({ volumes, registry, clock, log }: VolumesParts, lifecycle: Lifecycle, alone: Alone) {
    this.#store = volumes;
    this.#registry = registry;
    this.#lifecycle = lifecycle;
    this.#alone = alone;
    this.#clock = clock;
    this.#log = log;
  }

  async create(account: string, name: string, sizeMb: number): Promise<VolumeInfo> {
    return this.#info(await this.#store.create(account, name, sizeMb * MIB), []);
  }

  async list(account: string): Promise<VolumeInfo[]> {
    const users = await this.#users(account);
    return (await this.#store.list(account)).map((volume) => this.#info(volume, users.get(volume.name) ?? []));
  }

  async get(account: string, name: string): Promise<VolumeInfo> {
    const volume = await this.#store.find(account, name);
    return this.#info(volume, (await this.#users(account)).get(name) ?? []);
  }

  remove(account: string, name: string): Promise<void> {
    return this.#store.remove(account, name);
  }

  async resize(account: string, name: string, sizeMb: number): Promise<VolumeInfo> {
    const sizeBytes = sizeMb * MIB;
    await this.#store.resize(account, name, sizeBytes);
    const writer = this.#lifecycle
      .all()
      .find((live) => live.account === account && !isTerminal(live) && live.volumes.get(name)?.readOnly === false);
    if (writer !== undefined) await this.#alone(writer, () => this.#grow(writer, name, sizeBytes));
    return this.get(account, name);
  }

  /** @throws {WarrenError} before anything is made: what could not be attached to a new sandbox */
  async check(account: string, asked: readonly VolumeMount[]): Promise<void> {
    const placed: Placed[] = [];
    for (const one of asked) {
      placed.push(placeFor(one, placed));
      await this.#store.find(account, one.name);
    }
  }

  attach(live: Live, asked: VolumeMount, { signal }: CallOptions = {}): Promise<AttachedVolume> {
    return this.#alone(live, async () => {
      signal?.throwIfAborted();
      const body = runningBody(live);
      const place = placeFor(asked, live.volumes.values());
      using volume = await this.#store.open(live.account, place.name, place.readOnly);
      live.volumes.set(place.name, place);
      try {
        await this.#bring(live, body, place, volume);
      } catch (cause) {
        live.volumes.delete(place.name);
        throw cause;
      }
      await this.#tell(live);
      const { name, mount, readOnly } = place;
      return { name, mount, readOnly };
    });
  }

  detach(live: Live, name: string): Promise<void> {
    return this.#alone(live, async () => {
      const body = runningBody(live);
      const place = live.volumes.get(name);
      if (place === undefined) {
        throw new WarrenError("not_found", `sandbox ${live.id} has no volume ${name}`, {
          details: { field: "name", name, id: live.id },
        });
      }
      await unmountDrive(body.agent, place.mount);
      await body.vmm.eject(place.drive);
      live.volumes.delete(name);
      await this.#tell(live);
    });
  }

  /**
   * Has a guest put what it wrote to its volumes on disk, for one that is about to be closed. One that does not in
   * {@link LIMITS.volumeFlushMs} has its own loss.
   */
  async flush({ id, state, volumes }: SandboxInfo, reach: () => Promise<Pick<AwakeClone, "agent">>): Promise<void> {
    const mounts = volumes.filter(({ readOnly }) => !readOnly).map(({ mount }) => mount);
    if (mounts.length === 0 || state !== "running") return;
    const late = new AbortController();
    const cancel = this.#clock.after(LIMITS.volumeFlushMs, () => late.abort(new Error("it took too long")));
    try {
      const { agent } = await reach();
      await flushDrives(agent, mounts, late.signal);
    } catch (cause) {
      this.#log.warn("volumes of a closed sandbox were not flushed", { id, cause: String(cause) });
    } finally {
      cancel();
    }
  }

  async #bring(live: Live, { vmm, agent }: AwakeClone, place: Placed, volume: OpenVolume): Promise<void> {
    const { medium } = volume;
    const grows = volume.hasGrown && !place.readOnly;
    await vmm.insert(place.drive, medium);
    try {
      await mountDrive(agent, { index: place.drive, sizeBytes: medium.sizeBytes }, { ...place, grows });
    } catch (cause) {
      await vmm.eject(place.drive);
      throw cause;
    }
    if (grows) await this.#store.fitted(live.account, place.name, medium.sizeBytes);
  }

  async #grow(live: Live, name: string, sizeBytes: number): Promise<void> {
    const place = live.volumes.get(name);
    if (place === undefined || place.readOnly || live.info.state !== "running" || live.body === null) return;
    await live.body.vmm.grow(place.drive, sizeBytes);
    await growDrive(live.body.agent, { index: place.drive, sizeBytes });
    await this.#store.fitted(live.account, name, sizeBytes);
  }

  /** The sandbox's info, here and for other processes of the home. */
  async #tell(live: Live): Promise<void> {
    live.info = { ...live.info, volumes: attachedVolumes(live) };
    const record = await this.#registry.get(live.id);
    if (record !== null) await this.#registry.put({ ...record, info: live.info });
  }

  /** Which sandboxes have which volume, by name. */
  async #users(account: string): Promise<Map<string, string[]>> {
    const own = this.#lifecycle.all().filter((live) => live.account === account);
    const mine = new Set(own.map(({ id }) => id));
    const others = (await this.#registry.list()).filter((record) => record.account === account && !mine.has(record.id));
    const infos = [...own.filter((live) => !isTerminal(live)), ...others].map(({ info }) => info);
    const users = new Map<string, string[]>();
    for (const { id, volumes } of infos) {
      for (const { name } of volumes) users.set(name, [...(users.get(name) ?? []), id]);
    }
    return users;
  }

  #info({ name, sizeBytes, usedBytes, createdAt }: SavedVolume, attachedTo: string[]): VolumeInfo {
    return { name, sizeMb: sizeBytes / MIB, usedBytes, createdAt, attachedTo };
  }
}

/** @throws {WarrenError} `wrong_state`, `sandbox_lost` */
export function runningBody(live: Live): AwakeClone {
  if (live.info.state !== "running" || live.body === null) throw notRunning(live.info);
  return live.body;
}
