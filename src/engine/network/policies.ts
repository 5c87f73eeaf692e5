/** Which egress policy a sandbox gets: what was asked for, what its source had, what this host can give. Pure. */
import type { AddressRange } from "../../base/address.ts";
import type { Egress, Secret } from "../../contract/routes/network.ts";
import type { SandboxCreate } from "../../contract/routes/sandboxes.ts";
import { egressOf, narrower, type Policy, parsePolicy, permits } from "../../egress/policy.ts";
import { WarrenError } from "../../errors.ts";

/** What this host has to say about networks. */
export interface NetworkFacts {
  /** Why sandboxes have none here, with the remedy; null when they do. */
  readonly degraded: string | null;
  /** Forbidden ranges that the operator has opened. */
  readonly exempt: readonly AddressRange[];
}

/** A policy as it is written down. */
export interface WrittenPolicy {
  readonly egress: Egress;
  readonly secrets: readonly Secret[];
}

export function writtenOf(policy: Policy): WrittenPolicy {
  return { egress: egressOf(policy), secrets: policy.secrets };
}

/** Whether both let through the same, with the same secrets. */
export function isSame(a: Policy, b: Policy): boolean {
  return Bun.deepEquals(writtenOf(a), writtenOf(b));
}

/** Of something that was written down by this program; a host without networks gives none. */
export function restored({ egress, secrets }: WrittenPolicy, facts: NetworkFacts): Policy {
  if (facts.degraded !== null) return parsePolicy({ mode: "none" }, [], facts.exempt);
  return parsePolicy(egress, secrets, facts.exempt);
}

/**
 * A new sandbox's. @param saved what the sandbox of the snapshot had that it is restored from
 * @throws {WarrenError} `invalid_request` – an entry, or more than the snapshot had; `host_unsupported`
 */
export function createPolicy(input: SandboxCreate, saved: WrittenPolicy | null, facts: NetworkFacts): Policy {
  const egress = asked(input);
  if (saved !== null) return narrowed(egress, input.secrets, restored(saved, facts), facts, "the snapshot's");
  if (egress === null && input.secrets === undefined) {
    return parsePolicy({ mode: facts.degraded === null ? "open" : "none" }, [], facts.exempt);
  }
  const policy = parsePolicy(egress ?? { mode: "open" }, input.secrets ?? [], facts.exempt);
  refuseDegraded(policy, facts);
  return policy;
}

/** A child's, or the new one of a sandbox that has a ceiling. @throws {WarrenError} `invalid_request` – not narrower */
export function narrowed(
  egress: Egress | null,
  secrets: readonly Secret[] | undefined,
  parent: Policy,
  facts: NetworkFacts,
  whose: string,
): Policy {
  if (egress === null && secrets === undefined) return parent;
  const wanted = egress ?? egressOf(parent);
  const plain = parsePolicy(wanted, [], facts.exempt);
  // Secrets that the narrower policy has no use for are left behind rather than refused.
  const kept = secrets ?? parent.secrets.filter(({ host }) => wanted.mode !== "none" && permits(plain, host, 443));
  const policy = parsePolicy(wanted, kept, facts.exempt);
  const why = narrower(policy, parent);
  if (why === null) return policy;
  throw new WarrenError("invalid_request", `egress: may only be narrower than ${whose}: ${why}`, {
    details: { field: "egress", allowed: egressOf(parent) },
  });
}

/** @throws {WarrenError} `host_unsupported` – anything but none was asked for, and nothing else is possible here */
export function refuseDegraded({ mode }: Pick<Egress, "mode">, { degraded }: NetworkFacts): void {
  if (degraded === null || mode === "none") return;
  throw new WarrenError("host_unsupported", `egress: this host gives sandboxes no network: ${degraded}`, {
    details: { field: "egress", got: mode, allowed: ["none"] },
  });
}

function asked({ egress, egressAllowlist }: SandboxCreate): Egress | null {
  if (egressAllowlist === undefined) return egress ?? null;
  if (egress === undefined) return { mode: "allowlist", allow: egressAllowlist };
  const says = "egressAllowlist: give either this or egress, whose `allow` says the same";
  throw new WarrenError("invalid_request", says, { details: { field: "egressAllowlist" } });
}
