/**
 * Egress of the engine's sandboxes: opened on what was leased before the guest runs, changed while it does, closed with it.
 * What a policy means is decided in `egress/`, what is enforced in `host/net/`.
 */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Output } from "../../contract/route.ts";
import type { Egress, NetworkInfo, networkRoutes } from "../../contract/routes/network.ts";
import { type EgressParts, SandboxEgress } from "../../egress/egress.ts";
import { egressOf, type Policy, parsePolicy } from "../../egress/policy.ts";
import { WarrenError } from "../../errors.ts";
import type { GuestAgent } from "../../guest/agent.ts";
import { trust } from "../../guest/trust/trust.ts";
import type { Host } from "../../host/host.ts";
import type { Network } from "../../host/network.ts";
import type { Clone } from "../create/clone.ts";
import type { Live } from "../live.ts";
import { notRunning } from "../reached.ts";
import { type Registry, recordOf, type SandboxRecord } from "../registry.ts";
import { EntrustedEgress } from "./entrusted.ts";
import type { EgressKeeper } from "./keeper.ts";
import { createPolicy, isSame, type NetworkFacts, refuseDegraded, restored, writtenOf } from "./policies.ts";

type NetworkLog = Awaited<Output<typeof networkRoutes.networkLog>>;

export interface NetworksParts {
  readonly host: Host;
  readonly clock: Clock;
  readonly log: Log;
  /** Name servers of this host, and what its operator has opened. */
  readonly egress: Pick<EgressParts, "upstreams" | "exempt">;
  /** Has the egress of detached sandboxes. */
  readonly keeper: EgressKeeper;
  readonly registry: Pick<Registry, "get" | "put">;
}

export class Networks {
  readonly #parts: NetworksParts;

  constructor(parts: NetworksParts) {
    this.#parts = parts;
  }

  get facts(): NetworkFacts {
    return { degraded: this.#parts.host.networkDegraded, exempt: this.#parts.egress.exempt };
  }

  /**
   * Of a clone that nobody has asked for yet, and that will outlive this process: what the keeper does takes 10 to 30 ms, and is
   * done here for the policy of those who name none. Null: it has no network.
   * @throws {WarrenError} `driver_failed`, `host_unsupported`
   */
  async ahead({ id, lease, vmm }: Clone): Promise<Policy | null> {
    if (lease.network === null) return null;
    const policy = createPolicy({}, null, this.facts);
    await EntrustedEgress.open(this.#parts.keeper, { id, ref: vmm.ref, ...writtenOf(policy) }, lease.network);
    return policy;
  }

  /** Before the guest runs; undone with the clone. @throws {WarrenError} `driver_failed`, `host_unsupported` */
  async open(live: Live, clone: Pick<Clone, "lease" | "undo" | "vmm" | "origin" | "ahead">): Promise<void> {
    const { clock, log, egress: given } = this.#parts;
    const { lease, undo } = clone;
    live.egress = null;
    if (lease.network === null) return this.#without(live);
    if (live.spec.detached) {
      const entrusted = await this.#entrusted(live, clone, lease.network);
      undo.defer(() => {
        live.used = entrusted.usage() ?? live.used;
      });
      live.egress = entrusted;
      return;
    }
    const egress = await SandboxEgress.open(lease.network, live.policy, { ...given, clock, log, sandboxId: live.id });
    undo.defer(async () => {
      live.used = egress.usage() ?? live.used;
      await egress.close();
    });
    live.egress = egress;
  }

  /** Has its guest believe the certificates by which secrets are set. */
  async introduce({ egress }: Live, agent: GuestAgent): Promise<void> {
    await egress?.opened;
    const pem = egress?.certificatePem ?? null;
    if (pem !== null) await trust(agent, pem);
  }

  /**
   * A detached sandbox that this process has to do with for the first time: where its keeper was killed another is started, whose
   * certificates its guest is told of. What fails is logged, as it would not concern most calls.
   */
  async meet(record: SandboxRecord, agent: GuestAgent): Promise<void> {
    const { id, info, ref, egress, secrets } = record;
    if (!info.detached || egress.mode === "none") return;
    try {
      const { certificatePem } = await this.#parts.keeper.open({ id, ref, egress, secrets });
      if (certificatePem !== null) await trust(agent, certificatePem);
    } catch (cause) {
      this.#parts.log.warn("a detached sandbox has no names for now", { id, why: String(cause) });
    }
  }

  /** Of a detached sandbox any process of the home may have changed the policy: what it is now is in the register. */
  async refresh(live: Live): Promise<void> {
    if (!live.spec.detached || live.body === null) return;
    const record = await this.#parts.registry.get(live.id);
    if (record === null) return;
    live.policy = restored(record, this.facts);
    live.info = { ...live.info, egress: egressOf(live.policy) };
  }

  async info(live: Live): Promise<NetworkInfo> {
    await this.refresh(live);
    const { degraded } = this.facts;
    const secretHosts = [...new Set(live.policy.secrets.map(({ host }) => host))];
    return { egress: egressOf(live.policy), secretHosts, usage: live.egress?.usage() ?? live.used, degraded };
  }

  /** Of one that another process made. */
  infoOf({ info, ref, secrets }: SandboxRecord): NetworkInfo {
    const { degraded } = this.facts;
    const secretHosts = [...new Set(secrets.map(({ host }) => host))];
    return { egress: info.egress, secretHosts, usage: this.#parts.host.networkOf(ref)?.usage() ?? null, degraded };
  }

  /** Its secrets stay; those whose hosts are not allowed any more have to be given up with the sandbox. */
  async set(live: Live, egress: Egress): Promise<NetworkInfo> {
    await this.refresh(live);
    const policy = parsePolicy(egress, live.policy.secrets, this.facts.exempt);
    refuseDegraded(policy, this.facts);
    await this.#change(live, policy);
    return this.info(live);
  }

  /** The same, of one that another process made. @throws {WarrenError} `unsupported` – it ends with that process */
  async setOf(record: SandboxRecord, egress: Egress): Promise<NetworkInfo> {
    if (!record.info.detached) throw elsewhere(record.id);
    const { mode } = parsePolicy(egress, record.secrets, this.facts.exempt);
    refuseDegraded({ mode }, this.facts);
    if (record.info.state !== "running" && record.info.state !== "paused") throw notRunning(record.info);
    const usage = await this.#parts.keeper.change(record.id, egress);
    const now = (await this.#parts.registry.get(record.id)) ?? record;
    return { ...this.infoOf(now), usage };
  }

  async log(live: Live): Promise<NetworkLog> {
    if (live.egress === null) return { events: [], lost: 0 };
    return told(await live.egress.log());
  }

  /** @throws {WarrenError} `unsupported` – it ends with the process that made it */
  async logOf({ id, info }: SandboxRecord): Promise<NetworkLog> {
    if (!info.detached) throw elsewhere(id);
    return told(await this.#parts.keeper.log(id));
  }

  async #entrusted(
    live: Live,
    clone: Pick<Clone, "vmm" | "origin" | "ahead">,
    network: Network,
  ): Promise<EntrustedEgress> {
    const { keeper, registry } = this.#parts;
    const kept = { id: live.id, ref: clone.vmm.ref, ...writtenOf(live.policy) };
    if (clone.ahead === null) return EntrustedEgress.open(keeper, kept, network);
    if (isSame(clone.ahead, live.policy)) return EntrustedEgress.ahead(keeper, kept, network);
    await registry.put(recordOf(live, clone)); // the keeper changes what the register knows
    await keeper.change(live.id, kept.egress);
    return EntrustedEgress.open(keeper, kept, network);
  }

  /** Found out only now: what was asked for fails, what was taken for granted is told. @throws {WarrenError} `host_unsupported` */
  #without(live: Live): void {
    const degraded = this.facts.degraded ?? "it has none to give";
    if (!live.spec.anyPolicy) refuseDegraded(live.policy, { ...this.facts, degraded });
    if (live.policy.mode === "none") return;
    live.policy = parsePolicy({ mode: "none" }, []);
    const notes = [...live.info.notes, `it has no network: ${degraded}`];
    live.info = { ...live.info, egress: egressOf(live.policy), notes };
  }

  async #change(live: Live, policy: Policy): Promise<void> {
    if (live.info.state !== "running" && live.info.state !== "paused") throw notRunning(live.info);
    if (live.egress !== null) await live.egress.change(policy);
    live.policy = policy;
    live.info = { ...live.info, egress: egressOf(policy) };
  }
}

function told({
  events,
  lost,
}: {
  readonly events: readonly NetworkLog["events"][number][];
  readonly lost: number;
}): NetworkLog {
  return { events: [...events], lost };
}

/** Another process has it: what its network is, is in that one's hands. */
export function elsewhere(id: string): WarrenError {
  const says = `sandbox ${id} was made by another process, which has its network in its hands: only its maker can do that`;
  return new WarrenError("unsupported", says, { details: { id } });
}
