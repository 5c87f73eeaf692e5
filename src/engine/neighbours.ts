/**
 * Sandboxes of this home that another process made: found through the register, reached on a spare agent port, kept
 * connected for this process's life. What they are is their maker's word; only their end is done from here.
 */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Driver, Vmm } from "../driver/driver.ts";
import { isWarrenError, WarrenError } from "../errors.ts";
import { GuestAgent } from "../guest/agent.ts";
import { LIMITS } from "../limits.ts";
import type { Reached } from "./calls.ts";
import { undoAll } from "./create/clone.ts";
import { soon } from "./life/ends.ts";
import { notRunning } from "./reached.ts";
import type { PortClaim, Registry, SandboxRecord } from "./registry.ts";

export interface NeighbourParts {
  readonly driver: Driver;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Log;
  /** Called with each that is reached for the first time; does not fail. */
  readonly met: (record: SandboxRecord, agent: GuestAgent) => Promise<void>;
}

interface Contact {
  readonly vmm: Vmm;
  readonly agent: GuestAgent;
  readonly undo: AsyncDisposableStack;
}

export class Neighbours {
  readonly #parts: NeighbourParts;
  readonly #contacts = new Map<string, Promise<Contact>>();
  /** Found here once, oldest first: whoever has such an id may close it although it has ended by itself meanwhile. */
  readonly #seen = new Set<string>();

  constructor(parts: NeighbourParts) {
    this.#parts = parts;
  }

  /** The record of a sandbox made elsewhere; null when there is none for this account. */
  async find(account: string, id: string): Promise<SandboxRecord | null> {
    const record = await this.#parts.registry.get(id);
    if (record?.account !== account) return null;
    this.#seen.add(`${account} ${id}`);
    const [oldest] = this.#seen;
    if (oldest !== undefined && this.#seen.size > LIMITS.endedSandboxes) this.#seen.delete(oldest);
    return record;
  }

  /** True when this account found it here before: then it is not unknown, but over. */
  knew(account: string, id: string): boolean {
    return this.#seen.has(`${account} ${id}`);
  }

  async list(account: string): Promise<SandboxRecord[]> {
    return (await this.#parts.registry.list()).filter((record) => record.account === account);
  }

  /** @throws {WarrenError} `wrong_state`, `sandbox_lost`, `capacity_exhausted` – every agent port is in use. */
  async reach(record: SandboxRecord): Promise<Reached> {
    const { id, info, env, workdir } = record;
    if (info.state !== "running") throw notRunning(info);
    const contact = await this.#contact(record);
    const explain = async (cause: unknown) => {
      if (!isWarrenError(cause, "sandbox_lost")) return cause;
      await soon(contact.vmm.exited, this.#parts.clock);
      if ((await this.#parts.registry.get(id)) !== null) return cause;
      return new WarrenError("sandbox_lost", `sandbox ${id} ended during the call`, { details: { id }, cause });
    };
    return { agent: contact.agent, env, workdir, explain };
  }

  /** Its machine and its agent, this process's for as long as both live. @throws as {@link reach} does */
  contact(record: SandboxRecord): Promise<{ readonly vmm: Vmm; readonly agent: GuestAgent }> {
    return this.#contact(record);
  }

  /** The same, when there is contact already. */
  known(id: string): Promise<{ readonly vmm: Vmm; readonly agent: GuestAgent }> | null {
    return this.#contacts.get(id) ?? null;
  }

  /** Whether another process has an agent port of this sandbox, which is ours. */
  async areConnected(id: string): Promise<boolean> {
    const free: PortClaim[] = [];
    try {
      for (let i = 1; i < LIMITS.agentPorts; i++) {
        const claim = await this.#parts.registry.claimPort(id);
        if (claim === null) return true;
        free.push(claim);
      }
      return false;
    } finally {
      for (const claim of free) claim.release();
    }
  }

  /** Kills it and frees what is left of it; a sandbox that is gone already is fine. */
  async end(record: SandboxRecord): Promise<void> {
    const known = this.#contacts.get(record.id);
    const vmm = known === undefined ? await this.#parts.driver.adopt(record.ref) : (await known).vmm;
    await vmm?.kill();
    if (known !== undefined) await this.#drop(record.id);
    await this.#parts.registry.remove(record.id);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#contacts.keys()].map((id) => this.#drop(id)));
  }

  #contact(record: SandboxRecord): Promise<Contact> {
    const known = this.#contacts.get(record.id);
    if (known !== undefined) return known;
    const made = this.#connect(record);
    this.#contacts.set(record.id, made);
    made.then(
      ({ vmm, agent }) => {
        const drop = () => this.#drop(record.id);
        void vmm.exited.then(drop);
        void agent.lost.then(drop);
      },
      () => this.#contacts.delete(record.id),
    );
    return made;
  }

  async #drop(id: string): Promise<void> {
    const contact = this.#contacts.get(id);
    if (contact === undefined) return;
    this.#contacts.delete(id);
    const made = await contact.catch(() => null); // one that could not be made has undone itself
    if (made !== null) await undoAll(made.undo, this.#parts.log, id);
  }

  async #connect(record: SandboxRecord): Promise<Contact> {
    const { id, ref } = record;
    const { driver, clock, log, met } = this.#parts;
    const undo = new AsyncDisposableStack();
    try {
      const vmm = await driver.adopt(ref);
      if (vmm === null) {
        throw new WarrenError("sandbox_lost", `sandbox ${id} is gone: its VMM has ended`, { details: { id } });
      }
      // Its last owner may have ended while it held it still; whoever holds it now has the monitor until it goes on.
      await vmm.resume().catch((cause: unknown) => {
        throw new WarrenError("sandbox_lost", `sandbox ${id} cannot be reached: its VMM ends`, {
          details: { id },
          cause,
        });
      });
      vmm.letGo();
      const claim = await this.#claim(id);
      undo.defer(() => claim.release());
      const link = await vmm.connect(claim.index);
      undo.defer(() => link.close());
      const agent = await GuestAgent.connect(link, { clock });
      undo.defer(() => agent.close());
      await met(record, agent);
      return { vmm, agent, undo };
    } catch (cause) {
      await undoAll(undo, log, id);
      throw cause;
    }
  }

  async #claim(id: string): Promise<PortClaim> {
    const { registry, clock } = this.#parts;
    const untilMs = clock.monotonicMs() + LIMITS.portWaitMs;
    for (;;) {
      const claim = await registry.claimPort(id);
      if (claim !== null) return claim;
      if (clock.monotonicMs() >= untilMs) break;
      await clock.sleep(LIMITS.portRetryMs);
    }
    throw new WarrenError("capacity_exhausted", `sandbox ${id} is in use by as many processes as it can serve`, {
      details: { id },
    });
  }
}
