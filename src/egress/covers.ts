/** Whether an entry of one allowlist is within the entries of another, at every name or address and every port. */
import type { PortRange } from "../base/address.ts";
import { coveredBy, holdsPort, matchesName, type NameEntry, type RangeEntry } from "./entries.ts";

/**
 * Holds for each port of `ports` when it does so for those that stand for a stretch on which `others` do not change. All
 * ports (null) is more than 1–65535: what has no ports, as ICMP, is only in it.
 */
function forEachPort(
  ports: PortRange | null,
  others: readonly (PortRange | null)[],
  holds: (port: number | null) => boolean,
): boolean {
  if (ports === null) return holds(null);
  const starts = others.flatMap((other) => (other === null ? [] : [other.from, other.to + 1]));
  return [ports.from, ...starts.filter((port) => holdsPort(ports, port))].every(holds);
}

const open = (ports: PortRange | null, port: number | null): boolean =>
  ports === null || (port !== null && holdsPort(ports, port));

export function nameCovered(entry: NameEntry, by: readonly NameEntry[]): boolean {
  const wider = by.filter((parent) =>
    entry.wildcard
      ? parent.wildcard && (parent.name === entry.name || entry.name.endsWith(`.${parent.name}`))
      : matchesName(parent, entry.name),
  );
  const ports = wider.map((parent) => parent.ports);
  return forEachPort(entry.ports, ports, (port) => ports.some((other) => open(other, port)));
}

export function rangeCovered(entry: RangeEntry, by: readonly RangeEntry[]): boolean {
  return forEachPort(
    entry.ports,
    by.map((parent) => parent.ports),
    (port) =>
      coveredBy(
        entry.range,
        by.filter((parent) => open(parent.ports, port)).map((parent) => parent.range),
      ),
  );
}
