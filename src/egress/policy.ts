/**
 * What may leave a sandbox, pure: a policy from what a caller said, what it permits, how it is shown, the rules that the
 * kernel gets for it, and whether another one would allow more.
 */
import type { AddressRange, IpAddress, PortRange } from "../base/address.ts";
import type { Egress, EgressMode, Secret } from "../contract/routes/network.ts";
import { WarrenError } from "../errors.ts";
import type { EgressLimits, EgressRules } from "../host/network.ts";
import { LIMITS } from "../limits.ts";
import { nameCovered, rangeCovered } from "./covers.ts";
import {
  formatEntry,
  holdsPort,
  matchesAddress,
  matchesName,
  type NameEntry,
  nameFault,
  parseEntry,
  plainName,
  type RangeEntry,
} from "./entries.ts";

export interface Policy {
  readonly mode: EgressMode;
  /** Of an allowlist; without duplicates, in the order in which they were said. */
  readonly names: readonly NameEntry[];
  readonly ranges: readonly RangeEntry[];
  readonly inspect: boolean;
  readonly limits: EgressLimits;
  /** Hosts in lower case; each (host, header) once. */
  readonly secrets: readonly Secret[];
}

export interface RulesParts {
  readonly dnsPort: number | null;
  readonly proxyPort: number | null;
  readonly exempt: readonly AddressRange[];
}

/** Secrets are set on requests over TLS only, and only this port's are caught for that. */
const SECRET_PORT = 443;
/** Headers that say where a request ends or belongs: with them set, two readers could see two requests. */
const FRAMING =
  /^(host|content-length|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|http2-settings|proxy-.*)$/i;
const BYTES_PER_MEGABIT = 125_000;

function invalid(field: string, got: string, why: string): WarrenError {
  const shown = JSON.stringify(got.length > 80 ? `${got.slice(0, 77)}…` : got);
  return new WarrenError("invalid_request", `${field}: got ${shown}, which ${why}`, {
    details: { field, allowed: why },
  });
}

function limitsOf(input: Egress): EgressLimits {
  return {
    bytesPerSecond: input.mbps === undefined ? null : Math.round(input.mbps * BYTES_PER_MEGABIT),
    newConnectionsPerSecond: input.newConnectionsPerSecond ?? LIMITS.egressNewPerSecond,
    connections: input.connections ?? LIMITS.egressConnections,
  };
}

function checkedSecrets(policy: Policy, secrets: readonly Secret[]): readonly Secret[] {
  const kept = new Map<string, Secret>();
  secrets.forEach((secret, i) => {
    const host = plainName(secret.host);
    const fault = host.includes("*") ? "is no single host: a secret is for one exact name" : nameFault(host);
    if (fault !== null) throw invalid(`secrets[${i}].host`, secret.host, fault);
    if (policy.mode === "none") throw invalid(`secrets[${i}].host`, secret.host, "mode none does not let be reached");
    if (!permits(policy, host, SECRET_PORT))
      throw invalid(`secrets[${i}].host`, secret.host, `egress.allow does not let be reached at port ${SECRET_PORT}`);
    if (FRAMING.test(secret.header))
      throw invalid(`secrets[${i}].header`, secret.header, "is set by HTTP itself and can carry no secret");
    const key = `${host} ${secret.header.toLowerCase()}`;
    if ((kept.get(key)?.value ?? secret.value) !== secret.value)
      throw invalid(`secrets[${i}].header`, secret.header, `has another value for ${host} before`);
    kept.set(key, { ...secret, host });
  });
  return [...kept.values()];
}

/**
 * The policy that `input` stands for. `exempt`: ranges that this host's operator lets sandboxes reach though they are not public.
 * @throws {WarrenError} `invalid_request` – naming the entry or secret, what came and why it is not taken; never a secret's value
 */
export function parsePolicy(input: Egress, secrets: readonly Secret[], exempt: readonly AddressRange[] = []): Policy {
  const names = new Map<string, NameEntry>();
  const ranges = new Map<string, RangeEntry>();
  if (input.allow !== undefined && input.mode !== "allowlist")
    throw new WarrenError("invalid_request", `egress.allow: only with mode allowlist, got mode ${input.mode}`, {
      details: { field: "egress.allow" },
    });
  (input.allow ?? []).forEach((text, i) => {
    const entry = parseEntry(text, exempt);
    if (entry.kind === "refused") throw invalid(`egress.allow[${i}]`, text, entry.why);
    if (entry.kind === "name") names.set(formatEntry(entry), entry);
    else ranges.set(formatEntry(entry), entry);
  });
  const policy: Policy = {
    mode: input.mode,
    names: [...names.values()],
    ranges: [...ranges.values()],
    inspect: input.inspect ?? false,
    limits: limitsOf(input),
    secrets: [],
  };
  return { ...policy, secrets: checkedSecrets(policy, secrets) };
}

/** The same ports as disjoint ranges in their order; `all` when one of them (null) is all. */
export function mergedPorts(ranges: readonly (PortRange | null)[]): readonly PortRange[] | "all" {
  const merged: { from: number; to: number }[] = [];
  for (const ports of ranges.toSorted((a, b) => (a?.from ?? 0) - (b?.from ?? 0))) {
    if (ports === null) return "all";
    const last = merged.at(-1);
    if (last !== undefined && ports.from <= last.to + 1) last.to = Math.max(last.to, ports.to);
    else merged.push({ ...ports });
  }
  return merged;
}

/** Which ports of a name's addresses are open; null when it is not permitted at all. */
export function portsOf(policy: Policy, name: string): readonly PortRange[] | "all" | null {
  if (policy.mode === "none") return null;
  if (policy.mode === "open") return "all";
  const entries = policy.names.filter((entry) => matchesName(entry, name));
  return entries.length === 0 ? null : mergedPorts(entries.map(({ ports }) => ports));
}

/** Whether a name, as `plainName` gives it, may be reached; without a port: at any. Says nothing of where its addresses are. */
export function permits(policy: Policy, name: string, port?: number): boolean {
  const ports = portsOf(policy, name);
  if (ports === null || ports === "all") return ports !== null;
  return ports.some((range) => holdsPort(range, port));
}

/** Whether an address may be reached without a name. Says nothing of forbidden ranges. */
export function permitsAddress(policy: Policy, address: IpAddress, port?: number): boolean {
  if (policy.mode !== "allowlist") return policy.mode === "open";
  return policy.ranges.some((entry) => matchesAddress(entry, address) && holdsPort(entry.ports, port));
}

/** As a caller would say it; secrets are no part of it. Reads back as the same policy. */
export function egressOf(policy: Policy): Egress {
  const { bytesPerSecond, newConnectionsPerSecond, connections } = policy.limits;
  return {
    mode: policy.mode,
    ...(policy.mode === "allowlist" && { allow: [...policy.names, ...policy.ranges].map(formatEntry) }),
    ...(policy.inspect && { inspect: true }),
    ...(bytesPerSecond !== null && { mbps: bytesPerSecond / BYTES_PER_MEGABIT }),
    ...(newConnectionsPerSecond !== LIMITS.egressNewPerSecond && { newConnectionsPerSecond }),
    ...(connections !== LIMITS.egressConnections && { connections }),
  };
}

/** True when some connections go through the proxy. */
export function wantsProxy(policy: Policy): boolean {
  return policy.mode !== "none" && (policy.inspect || policy.secrets.length > 0);
}

/** What the kernel is told; names come to it only as the addresses that they are answered with. */
export function rulesOf(policy: Policy, { dnsPort, proxyPort, exempt }: RulesParts): EgressRules {
  const all = policy.inspect ? "all" : "named";
  return {
    mode: policy.mode,
    ranges: policy.ranges.map(({ range, ports }) => ({ range, ports })),
    exempt,
    limits: policy.limits,
    dnsPort,
    proxyPort,
    caught: proxyPort !== null && wantsProxy(policy) ? all : "none",
  };
}

function widerLimit(child: Policy, parent: Policy): string | null {
  const [mine, theirs] = [child.limits, parent.limits];
  if (theirs.bytesPerSecond !== null && (mine.bytesPerSecond ?? Infinity) > theirs.bytesPerSecond)
    return "egress.mbps is more than its parent's";
  for (const limit of ["newConnectionsPerSecond", "connections"] as const)
    if (mine[limit] > theirs[limit])
      return `egress.${limit}: ${mine[limit]} is more than its parent's ${theirs[limit]}`;
  return null;
}

/** Null when `child` allows nothing that `parent` does not, else what it would; for the caller. */
export function narrower(child: Policy, parent: Policy): string | null {
  if (child.mode === "none") return null;
  if (parent.mode === "none" || (parent.mode === "allowlist" && child.mode === "open"))
    return `egress.mode: ${child.mode} is more than its parent's ${parent.mode}`;
  if (parent.mode === "allowlist") {
    const wider = [
      ...child.names.filter((entry) => !nameCovered(entry, parent.names)),
      ...child.ranges.filter((entry) => !rangeCovered(entry, parent.ranges)),
    ];
    if (wider[0] !== undefined) return `egress.allow: its parent may not reach ${formatEntry(wider[0])}`;
  }
  if (parent.inspect && !child.inspect) return "egress.inspect: its parent is inspected, and so is a child of it";
  const limit = widerLimit(child, parent);
  if (limit !== null) return limit;
  const own = child.secrets.find(
    ({ host, header, value }) =>
      !parent.secrets.some(
        (held) => held.host === host && held.header.toLowerCase() === header.toLowerCase() && held.value === value,
      ),
  );
  return own === undefined ? null : `secrets: its parent has not this ${own.header} for ${own.host}`;
}
