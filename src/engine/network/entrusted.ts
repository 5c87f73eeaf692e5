/**
 * The egress of one sandbox while it lives, as its engine sees it: in this process's own hands, or entrusted to the home's
 * keeper, since the sandbox outlives this process.
 */
import type { NetworkEvent } from "../../contract/routes/network.ts";
import { egressOf, type Policy } from "../../egress/policy.ts";
import type { Network, NetworkUsage } from "../../host/network.ts";
import type { EgressKeeper, KeptSandbox } from "./keeper.ts";

/** What `SandboxEgress` is of itself. */
export interface LiveEgress {
  readonly certificatePem: string | null;
  /** Resolves when its names are answered too; its rules have been in force from before. */
  readonly opened?: Promise<void>;
  /** @throws {WarrenError} the policy before is still in force */
  change(policy: Policy): Promise<void>;
  usage(): NetworkUsage | null;
  log(): NetworkLog | Promise<NetworkLog>;
}

interface NetworkLog {
  readonly events: readonly NetworkEvent[];
  readonly lost: number;
}

/** Its kernel's rules and its names are the keeper's from the start; counters are read by anyone. */
export class EntrustedEgress implements LiveEgress {
  readonly certificatePem: string | null;
  readonly opened: Promise<void>;
  readonly #keeper: EgressKeeper;
  readonly #id: string;
  readonly #network: Network;
  #used: NetworkUsage | null = null;

  private constructor(
    keeper: EgressKeeper,
    id: string,
    network: Network,
    certificatePem: string | null,
    opened: Promise<void> = Promise.resolve(),
  ) {
    this.certificatePem = certificatePem;
    this.opened = opened;
    this.#keeper = keeper;
    this.#id = id;
    this.#network = network;
  }

  /** A network is lent with nothing let through: a sandbox that is to have none needs no keeper. @throws {WarrenError} as the keeper */
  static async open(keeper: EgressKeeper, sandbox: KeptSandbox, network: Network): Promise<EntrustedEgress> {
    const opened = sandbox.egress.mode === "none" ? null : await keeper.open(sandbox);
    return new EntrustedEgress(keeper, sandbox.id, network, opened?.certificatePem ?? null);
  }

  /**
   * The same of one without secrets that the keeper has opened with this policy before: the kernel has its rules, so its guest may
   * run while another keeper is asked to answer its names, should the one that did be gone.
   */
  static ahead(keeper: EgressKeeper, sandbox: KeptSandbox, network: Network): EntrustedEgress {
    const opened = keeper.open(sandbox).then(() => undefined);
    opened.catch(() => undefined); // whoever waits for it is told
    return new EntrustedEgress(keeper, sandbox.id, network, null, opened);
  }

  async change(policy: Policy): Promise<void> {
    await this.#keeper.change(this.#id, egressOf(policy));
  }

  usage(): NetworkUsage | null {
    this.#used = this.#network.usage() ?? this.#used;
    return this.#used;
  }

  log(): Promise<NetworkLog> {
    return this.#keeper.log(this.#id);
  }
}
