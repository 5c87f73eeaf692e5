/**
 * The home's living sandboxes, findable by every process of the home: one `run/<id>/sandbox.json` each, written whole or
 * not at all. A record is believed only while the process it names lives.
 */
import { existsSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { closeFd, openFd, tryLock } from "../../../ffi/files.ts";
import { hasCode } from "../../../ffi/native.ts";
import { nonce } from "../../base/id.ts";
import type { PortClaim, Registry, SandboxRecord } from "../../engine/registry.ts";
import { LIMITS } from "../../limits.ts";
import { killOccupants } from "../slots/occupants.ts";
import { isAlive, isForeign, isRunning } from "../slots/process-name.ts";
import { LEASE_ID } from "../slots/slots.ts";
import { type SweepGround, sweepSlot } from "../slots/sweep.ts";
import { keepEnd, RECORD } from "./ends.ts";

export class FileRegistry implements Registry {
  readonly #ground: SweepGround;

  constructor(ground: SweepGround) {
    this.#ground = ground;
  }

  #dir(id: string): string | null {
    return LEASE_ID.test(id) ? join(this.#ground.data.run, id) : null; // an id may come from a caller
  }

  /** Writes or replaces a record, whole or not at all. @throws when the sandbox has no lease here */
  async put(record: SandboxRecord): Promise<void> {
    const dir = this.#dir(record.id);
    if (dir === null) throw new Error(`no id of a sandbox: ${JSON.stringify(record.id)}`);
    const partial = join(dir, `.${RECORD}-${nonce()}`);
    await Bun.write(partial, JSON.stringify(record), { createPath: false, mode: 0o600 });
    renameSync(partial, join(dir, RECORD));
  }

  #read(id: string): SandboxRecord | null {
    const dir = this.#dir(id);
    if (dir === null) return null;
    try {
      // Only root can write here, so the shape is trusted; a record is replaced by rename, so it is never half of one.
      return JSON.parse(readFileSync(join(dir, RECORD), "utf8")) as SandboxRecord;
    } catch (error) {
      if (hasCode(error, "ENOENT", "ENOTDIR")) return null;
      throw error;
    }
  }

  /** Null when unknown or when its VMM is gone; a stale record is removed then. */
  async get(id: string): Promise<SandboxRecord | null> {
    const record = this.#read(id);
    if (record === null || isRunning(record.ref)) return record;
    const entry = this.#ground.slots.entries().find((e) => e.id === id);
    if (entry === undefined || !isForeign(entry.owner)) await this.remove(id);
    return null;
  }

  /** Every sandbox of the home whose VMM lives; stale records are removed on the way. */
  async list(): Promise<SandboxRecord[]> {
    const found: SandboxRecord[] = [];
    for (const id of readdirSync(this.#ground.data.run)) {
      const record = await this.get(id);
      if (record !== null) found.push(record);
    }
    return found;
  }

  /**
   * Forgets it. Where its maker has ended too, its lease is freed; a living maker does that itself. Unknown ids are fine.
   */
  async remove(id: string): Promise<void> {
    const dir = this.#dir(id);
    if (dir === null) return;
    const entry = this.#ground.slots.entries().find((e) => e.id === id);
    if (entry === undefined || isAlive(entry.owner)) {
      const record = this.#read(id);
      if (record !== null && !isRunning(record.ref)) keepEnd(this.#ground.data, id);
      rmSync(join(dir, RECORD), { force: true });
      return;
    }
    const until = this.#ground.clock.monotonicMs() + LIMITS.killMs;
    // A VMM that was just killed holds its slot for another moment; one that nobody can find any more is killed here.
    while (!sweepSlot(this.#ground, entry) && this.#ground.clock.monotonicMs() < until) {
      killOccupants(this.#ground.cgroups, entry.slot);
      await this.#ground.clock.sleep(5);
    }
    rmSync(join(dir, RECORD), { force: true }); // of one that the kernel does not let go of: nobody is to find it
  }

  /**
   * The lowest free port of 1 … `LIMITS.agentPorts` − 1 (0 is the maker's), this process's until released or until it ends;
   * null when all are taken or the sandbox is gone.
   */
  async claimPort(id: string): Promise<PortClaim | null> {
    const dir = this.#dir(id);
    if (dir === null || !existsSync(dir)) return null;
    for (let index = 1; index < LIMITS.agentPorts; index++) {
      const fd = openFd(join(dir, `port-${index}`), "lock");
      if (tryLock(fd, "exclusive")) return { index, release: releaser(fd) };
      closeFd(fd);
    }
    return null;
  }
}

function releaser(fd: number): () => void {
  let open = true;
  return () => {
    if (open) closeFd(fd);
    open = false;
  };
}
