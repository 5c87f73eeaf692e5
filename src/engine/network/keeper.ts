/**
 * Who has the egress of detached sandboxes in hand, as the engine sees it: a process of the home that outlives their makers
 * (`keeper/`), or one in memory in tests. Its methods wait for that process to start when there is none.
 */
import type { Egress, NetworkEvent, Secret } from "../../contract/routes/network.ts";
import type { VmRef } from "../../driver/driver.ts";
import type { NetworkUsage } from "../../host/network.ts";

/** What has to be known of a sandbox to have its egress: part of its record. */
export interface KeptSandbox {
  readonly id: string;
  readonly ref: VmRef;
  readonly egress: Egress;
  readonly secrets: readonly Secret[];
}

export interface EgressKeeper {
  /**
   * Resolves when the sandbox's egress is in force; twice is fine. The result is the certificate that its guest has to
   * believe (PEM), null when it needs none.
   * @throws {WarrenError} `driver_failed`, `host_unsupported`
   */
  open(sandbox: KeptSandbox): Promise<{ readonly certificatePem: string | null }>;
  /**
   * Replaces its policy, here and in the register; its secrets stay. The result is what it has used.
   * @throws {WarrenError} `invalid_request`, `not_found` – it has no record, `driver_failed`, `host_unsupported`
   */
  change(id: string, egress: Egress): Promise<NetworkUsage | null>;
  /** What it tried to reach. @throws {WarrenError} as `change` */
  log(id: string): Promise<{ readonly events: readonly NetworkEvent[]; readonly lost: number }>;
}
