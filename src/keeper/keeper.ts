/**
 * The egress of a home's detached sandboxes in one process, which is not the one that made them: names and proxies of each,
 * for as long as its VMM lives. What it keeps is known from the home's register, so another can go on where this one stopped.
 */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { Mailbox } from "../base/mailbox.ts";
import type { Egress } from "../contract/routes/network.ts";
import type { EgressParts, SandboxEgress } from "../egress/egress.ts";
import { egressOf, type Policy, parsePolicy } from "../egress/policy.ts";
import type { KeptSandbox } from "../engine/network/keeper.ts";
import type { Registry, SandboxRecord } from "../engine/registry.ts";
import { WarrenError } from "../errors.ts";
import type { Host } from "../host/host.ts";
import type { Network } from "../host/network.ts";
import { LIMITS } from "../limits.ts";
import type { Answers, Question } from "./protocol.ts";

/** Of a sandbox's egress, what a keeper has to do with. */
export type KeptEgress = Pick<SandboxEgress, "change" | "usage" | "log" | "close" | "certificatePem">;

export interface KeeperParts {
  readonly registry: Pick<Registry, "get" | "list" | "put">;
  readonly networkOf: Host["networkOf"];
  /** Whether its VMM still runs. */
  readonly lives: (ref: KeptSandbox["ref"]) => boolean;
  readonly open: (network: Network, policy: Policy, sandboxId: string) => Promise<KeptEgress>;
  readonly exempt: EgressParts["exempt"];
  readonly clock: Clock;
  readonly log: Log;
}

interface Kept {
  readonly ref: KeptSandbox["ref"];
  readonly egress: KeptEgress;
}

export class Keeper {
  readonly #parts: KeeperParts;
  readonly #kept = new Map<string, Kept>();
  /** One thing at a time for each sandbox. */
  readonly #turns = new Mailbox<string>();
  readonly #done = Promise.withResolvers<void>();
  #stopped = false;
  /** Monotonic clock since when there is nothing to do; null while there is. */
  #emptySinceMs: number | null = null;
  #cancelLook: () => void = () => undefined;

  constructor(parts: KeeperParts) {
    this.#parts = parts;
  }

  /** It answers nothing more. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Sandboxes that are kept or are about to be. */
  get size(): number {
    return this.#kept.size + this.#turns.size;
  }

  /** Resolves when nobody has needed it for a while, or it was stopped. */
  get done(): Promise<void> {
    return this.#done.promise;
  }

  /** Takes up what an earlier keeper of the home has left. A sandbox whose egress cannot be opened is left as it is. */
  async start(): Promise<void> {
    for (const record of await this.#parts.registry.list()) {
      if (!record.info.detached || record.egress.mode === "none") continue;
      try {
        await this.#turns.run(record.id, () => this.#open(record));
      } catch (error) {
        this.#parts.log.warn("the egress of a sandbox could not be taken up", { id: record.id, why: String(error) });
      }
    }
    this.#lookLater();
  }

  /** @throws {WarrenError} as the engine's port says */
  async answer(question: Question): Promise<Answers[Question["kind"]]> {
    const id = question.kind === "open" ? question.sandbox.id : question.id;
    return await this.#turns.run(id, async (): Promise<Answers[Question["kind"]]> => {
      if (question.kind === "open") return { certificatePem: (await this.#open(question.sandbox)).certificatePem };
      const record = await this.#recordOf(id);
      if (question.kind === "change") return { usage: await this.#change(record, question.egress) };
      return (await this.#open(record)).log();
    });
  }

  /** Stops if no sandbox is left and nothing is asked; whether it did. */
  async stopIfIdle(): Promise<boolean> {
    await this.#dropEnded();
    if (this.size > 0) return false;
    this.stop(); // in the same instant: nobody may come in between
    return true;
  }

  /** Answers nothing more. The kernel's rules of what still lives stay: whoever comes next takes them up. */
  stop(): void {
    this.#stopped = true;
    this.#cancelLook();
    this.#done.resolve();
  }

  async #open(sandbox: KeptSandbox): Promise<KeptEgress> {
    const { id, ref, egress, secrets } = sandbox;
    const known = this.#kept.get(id);
    if (known !== undefined) {
      if (isSame(known.ref, ref) && this.#parts.lives(ref)) return known.egress;
      await this.#drop(id, known.ref);
    }
    const network = this.#parts.lives(ref) ? this.#parts.networkOf(ref) : null;
    if (network === null) throw gone(id);
    const policy = parsePolicy(egress, secrets, this.#parts.exempt);
    const opened = await this.#parts.open(network, policy, id);
    this.#kept.set(id, { ref, egress: opened });
    return opened;
  }

  /** The register first: a keeper that comes after this one must never find more allowed than was said last. */
  async #change(record: SandboxRecord, egress: Egress): Promise<Answers["change"]["usage"]> {
    const { registry, exempt } = this.#parts;
    const policy = parsePolicy(egress, record.secrets, exempt);
    const shown = egressOf(policy);
    await registry.put({ ...record, egress: shown, info: { ...record.info, egress: shown } });
    try {
      const kept = await this.#open({ ...record, egress: shown });
      await kept.change(policy); // one that was just opened has it already; another one has its own
      return kept.usage();
    } catch (error) {
      await registry.put(record);
      throw error;
    }
  }

  async #recordOf(id: string): Promise<SandboxRecord> {
    const record = await this.#parts.registry.get(id);
    if (record?.info.detached === true) return record;
    throw new WarrenError("not_found", `there is no detached sandbox ${id} on this host`, { details: { id } });
  }

  async #drop(id: string, ref: KeptSandbox["ref"]): Promise<void> {
    const kept = this.#kept.get(id);
    if (kept === undefined || !isSame(kept.ref, ref)) return;
    this.#kept.delete(id);
    await kept.egress.close();
    await this.#parts.registry.get(id); // frees what is left of it where its maker has ended too
  }

  #lookLater(): void {
    if (this.#stopped) return;
    this.#cancelLook = this.#parts.clock.after(LIMITS.keeperLookMs, () => void this.#look());
  }

  async #look(): Promise<void> {
    try {
      await this.#dropEnded();
      // Reaching any of them sees to this host's share of the network, which other programs may have flushed.
      const [any] = this.#kept.values();
      if (any !== undefined) this.#parts.networkOf(any.ref);
    } catch (error) {
      this.#parts.log.error("looking after sandboxes failed", { why: String(error) });
    }
    const nowMs = this.#parts.clock.monotonicMs();
    if (this.size > 0) this.#emptySinceMs = null;
    else this.#emptySinceMs ??= nowMs;
    if (nowMs - (this.#emptySinceMs ?? nowMs) >= LIMITS.keeperIdleMs) this.stop();
    this.#lookLater();
  }

  async #dropEnded(): Promise<void> {
    for (const [id, { ref }] of this.#kept) {
      if (!this.#parts.lives(ref)) await this.#turns.run(id, () => this.#drop(id, ref));
    }
  }
}

function isSame(a: KeptSandbox["ref"], b: KeptSandbox["ref"]): boolean {
  return a.pid === b.pid && a.startTicks === b.startTicks && a.hostBootId === b.hostBootId;
}

function gone(id: string): WarrenError {
  const says = `sandbox ${id} has no network: its VMM has ended, or was started without one`;
  return new WarrenError("driver_failed", says, { details: { id } });
}
