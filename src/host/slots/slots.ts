/**
 * Slots: numbers that give a VMM its uid, its cgroup's name, its network and its place in the home's books, one holder at a
 * time on the whole host. The lock is a byte of one file in /run, through an open file of its own: held by the owner and inherited
 * by the jail's first process, it ends exactly when both are gone, SIGKILL or not. Containers with a /run of their own
 * do not see each other's locks, and leave each other's entries alone.
 *
 * `home/slots/<n>` is a symlink whose target is text: whose slot it is in this home. It is written before anything is made
 * for that slot and removed after everything is gone, so whatever a crash leaves is found through it.
 */
import { readdirSync, readlinkSync, symlinkSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { closeFd, lockByte } from "../../../ffi/files.ts";
import { hasCode } from "../../../ffi/native.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { type ProcessName, thisProcess } from "./process-name.ts";

/** One line of the home's books. */
export interface Entry {
  readonly slot: number;
  readonly id: string;
  readonly owner: ProcessName;
  /** May outlive its owner, once it has a record. */
  readonly detached: boolean;
}

/** Ids become directory names and parts of paths. */
export const LEASE_ID = /^[a-z0-9][a-z0-9_-]{0,62}$/;

function encode(entry: Entry): string {
  const { pid, startTicks, hostBootId, space } = entry.owner;
  return [entry.id, pid, startTicks, hostBootId, space, entry.detached ? "detached" : "owned"].join(":");
}

function decode(slot: number, text: string): Entry | null {
  const [id, pid, startTicks, hostBootId, space, kind] = text.split(":");
  if (id === undefined || hostBootId === undefined || space === undefined || !LEASE_ID.test(id)) return null;
  const owner = { pid: Number(pid), startTicks: Number(startTicks), hostBootId, space };
  return { slot, id, owner, detached: kind === "detached" };
}

/** Uid of a slot's VMM; the jail's first process has the next one. */
export function uidOf(slot: number): number {
  return LIMITS.slotUidBase + 2 * slot;
}

/** One for the host, whatever the home: uids and control groups are the host's. It stays, empty. */
const LOCKS = "/run/warren.slots";

/** Takes one slot's lock. @returns its descriptor, or null while another holder lives */
export function lockSlot(slot: number): number | null {
  return lockByte(LOCKS, slot);
}

export class Slots {
  readonly #dir: string;
  readonly #self: ProcessName;
  readonly #count: number;
  #next: number;

  /** @param dir `home/slots`, which exists */
  constructor(dir: string, self: ProcessName = thisProcess(), count: number = LIMITS.slots) {
    this.#dir = dir;
    this.#self = self;
    this.#count = count;
    // Processes start apart from each other and go round: no slot is asked for twice, and a uid rests before it is used again.
    this.#next = (self.pid * 97) % count;
  }

  /**
   * A free slot, locked, with an entry for `id`. What its last holder left in this home goes through `clean` first; a slot that
   * cannot be cleaned yet is passed over.
   * @throws {WarrenError} `capacity_exhausted` – every slot of this host is taken
   */
  take(
    id: string,
    clean: (leftover: Entry) => boolean,
    detached = false,
  ): { readonly slot: number; readonly fd: number } {
    for (const { slot, fd } of this.#free()) {
      try {
        if (this.claim(slot, id, clean, detached)) return { slot, fd };
      } catch (error) {
        closeFd(fd);
        throw error;
      }
      closeFd(fd);
    }
    throw new WarrenError("capacity_exhausted", `all ${this.#count} slots of this host are taken`);
  }

  /** Locked ones, from where the last was taken on; each is the caller's. */
  *#free(): Generator<{ readonly slot: number; readonly fd: number }> {
    for (let tried = 0; tried < this.#count; tried++) {
      const slot = this.#next;
      this.#next = (slot + 1) % this.#count;
      const fd = lockSlot(slot);
      if (fd !== null) yield { slot, fd };
    }
  }

  /** A free slot, locked, without an entry before or after; null when there is none. Entries of other homes are not seen. */
  lockFree(): { readonly slot: number; readonly fd: number } | null {
    for (const { slot, fd } of this.#free()) {
      if (this.entry(slot) === null) return { slot, fd };
      closeFd(fd);
    }
    return null;
  }

  /** Writes the entry of a slot whose lock the caller holds. @returns false when what its last holder left cannot be cleaned yet */
  claim(slot: number, id: string, clean: (leftover: Entry) => boolean, detached: boolean): boolean {
    const leftover = this.entry(slot);
    if (leftover !== null && !clean(leftover)) return false;
    this.remove(slot);
    symlinkSync(encode({ slot, id, owner: this.#self, detached }), join(this.#dir, String(slot)));
    return true;
  }

  entry(slot: number): Entry | null {
    try {
      return decode(slot, readlinkSync(join(this.#dir, String(slot))));
    } catch (error) {
      if (hasCode(error, "ENOENT", "EINVAL")) return null;
      throw error;
    }
  }

  /** Only for whoever holds the slot's lock. */
  remove(slot: number): void {
    try {
      unlinkSync(join(this.#dir, String(slot)));
    } catch (error) {
      if (!hasCode(error, "ENOENT")) throw error;
    }
  }

  entries(): Entry[] {
    const names = readdirSync(this.#dir).filter((name) => /^\d{1,5}$/.test(name));
    return names.map((name) => this.entry(Number(name))).filter((entry) => entry !== null);
  }
}
