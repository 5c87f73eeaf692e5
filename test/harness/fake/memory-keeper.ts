/** The home's keeper for worlds in memory: the real one's decisions, without a process; its rules are put on fake networks. */
import { createLog } from "../../../src/base/log.ts";
import type { Egress, NetworkEvent } from "../../../src/contract/routes/network.ts";
import { rulesOf } from "../../../src/egress/policy.ts";
import type { EgressKeeper, KeptSandbox } from "../../../src/engine/network/keeper.ts";
import type { NetworkUsage } from "../../../src/host/network.ts";
import { Keeper, type KeeperParts } from "../../../src/keeper/keeper.ts";
import type { Answers } from "../../../src/keeper/protocol.ts";

/** Where a real one's name server would listen. */
const PORTS = { dnsPort: 5353, proxyPort: null, exempt: [] };

/** Guests of fakes believe anything that looks like one. */
const PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";

export class MemoryKeeper implements EgressKeeper {
  readonly #parts: KeeperParts;
  #keeper: Keeper;

  constructor(parts: Pick<KeeperParts, "registry" | "networkOf" | "lives" | "clock">) {
    const log = createLog("silent");
    const open: KeeperParts["open"] = async (network, policy) => {
      let certificatePem: string | null = null;
      const change = async (wanted: typeof policy) => {
        network.apply(rulesOf(wanted, PORTS));
        certificatePem ??= wanted.secrets.length > 0 ? PEM : null; // as the real one's, it stays
      };
      await change(policy);
      const told: { events: NetworkEvent[]; lost: number } = { events: [], lost: 0 };
      return {
        get certificatePem() {
          return certificatePem;
        },
        ...{ change, usage: () => network.usage(), log: () => told, close: async () => undefined },
      };
    };
    this.#parts = { ...parts, open, exempt: [], log };
    this.#keeper = new Keeper(this.#parts);
  }

  /** Sandboxes that it has. */
  get size(): number {
    return this.#keeper.size;
  }

  /** What a SIGKILL is to the real one: the next call finds another, which knows the register alone. */
  forget(): void {
    this.#keeper = new Keeper(this.#parts);
  }

  async open({ id, ref, egress, secrets }: KeptSandbox): Promise<Answers["open"]> {
    const sandbox = { id, ref, egress, secrets: [...secrets] };
    return (await this.#keeper.answer({ kind: "open", sandbox })) as Answers["open"];
  }

  async change(id: string, egress: Egress): Promise<NetworkUsage | null> {
    return ((await this.#keeper.answer({ kind: "change", id, egress })) as Answers["change"]).usage;
  }

  async log(id: string): Promise<Answers["log"]> {
    return (await this.#keeper.answer({ kind: "log", id })) as Answers["log"];
  }
}
