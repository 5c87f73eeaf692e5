/**
 * Which addresses names were answered with: what the kernel is told to open for how long, what stays open over a change of
 * policy, and the name that a connection in the log was made to.
 */
import { formatAddress, type IpAddress, type PortRange } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import { WarrenError } from "../errors.ts";
import type { Admitted } from "../host/network.ts";
import { LIMITS } from "../limits.ts";
import { DNS } from "./dns/bounds.ts";
import { mergedPorts, type Policy, portsOf } from "./policy.ts";

interface Row {
  readonly address: IpAddress;
  /** Name → monotonic time in milliseconds until which it is open for that name's sake; the latest answer is last. */
  readonly names: Map<string, number>;
  /** What was admitted of it last: how many rows, until when. */
  admitted: number;
  untilMs: number;
}

type Ports = ReturnType<typeof portsOf>;

export class Answered {
  readonly #clock: Clock;
  /** By address; the latest answered is last. */
  readonly #rows = new Map<string, Row>();
  #pairs = 0;
  /** Ports of names under the policy that was last asked about: an allowlist is not gone through for every name of every row. */
  #ports: { readonly of: Policy; readonly byName: Map<string, Ports> } | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * What has to be admitted for these addresses now that `name` is answered with them: for each all that any name opens of it.
   * @throws {WarrenError} `capacity_exhausted` – as many addresses are open as may be
   */
  answer(policy: Policy, name: string, addresses: readonly IpAddress[], seconds: number): readonly Admitted[] {
    const untilMs = this.#clock.monotonicMs() + seconds * 1000;
    const rows = addresses.map((address) => this.#note(address, name, untilMs));
    const admitted = rows.flatMap((row) => this.#admit(policy, row));
    this.#forget();
    if (admitted.length > 0 && !this.#hasRoom()) {
      for (const row of rows) row.admitted = 0;
      const says = `more than ${LIMITS.egressAddresses} addresses of names are open at once; they close within minutes`;
      throw new WarrenError("capacity_exhausted", says);
    }
    return admitted;
  }

  /** What has to be admitted under a new policy: all that was ever answered and is still allowed, for a while at least. */
  again(policy: Policy): readonly Admitted[] {
    const leastMs = this.#clock.monotonicMs() + DNS.keptSeconds * 1000;
    const all: Admitted[] = [];
    for (const row of [...this.#rows.values()].reverse()) {
      row.admitted = 0;
      if (all.length >= LIMITS.egressAddresses) continue;
      for (const [name, untilMs] of row.names) row.names.set(name, Math.max(untilMs, leastMs));
      const more = this.#admit(policy, row);
      if (all.length + more.length <= LIMITS.egressAddresses) all.push(...more);
    }
    return all;
  }

  /** The name that an address was last answered for. */
  nameOf(address: IpAddress): string | null {
    const names = this.#rows.get(formatAddress(address))?.names;
    return names === undefined ? null : ([...names.keys()].at(-1) ?? null);
  }

  #note(address: IpAddress, name: string, untilMs: number): Row {
    const key = formatAddress(address);
    const row = this.#rows.get(key) ?? { address, names: new Map<string, number>(), admitted: 0, untilMs: 0 };
    this.#rows.delete(key);
    this.#rows.set(key, row);
    const before = row.names.get(name) ?? 0;
    this.#pairs -= row.names.size;
    row.names.delete(name);
    row.names.set(name, Math.max(before, untilMs));
    for (const oldest of row.names.keys()) {
      if (row.names.size <= DNS.namesOfAddress) break;
      row.names.delete(oldest);
    }
    this.#pairs += row.names.size;
    return row;
  }

  /** The oldest first; those that are open are young, as they are bounded in time. */
  #forget(): void {
    for (const [key, row] of this.#rows) {
      if (this.#pairs <= DNS.remembered) return;
      this.#rows.delete(key);
      this.#pairs -= row.names.size;
    }
  }

  #portsOf(policy: Policy, name: string): Ports {
    if (this.#ports?.of !== policy || this.#ports.byName.size > DNS.remembered)
      this.#ports = { of: policy, byName: new Map() };
    const { byName } = this.#ports;
    const known = byName.get(name);
    if (known !== undefined) return known;
    const ports = portsOf(policy, name);
    byName.set(name, ports);
    return ports;
  }

  #admit(policy: Policy, row: Row): readonly Admitted[] {
    const nowMs = this.#clock.monotonicMs();
    const live = [...row.names]
      .map(([name, untilMs]) => ({ name, untilMs, ports: this.#portsOf(policy, name) }))
      .filter(({ untilMs, ports }) => untilMs > nowMs && ports !== null);
    const proxied = live.some(({ name }) => policy.secrets.some(({ host }) => host === name));
    row.admitted = 0;
    // In mode open every public address is open as it is; only what goes to the proxy has to be known.
    if (live.length === 0 || (policy.mode === "open" && !proxied)) return [];
    const ranges = live.flatMap(({ ports }): readonly (PortRange | null)[] =>
      ports === "all" ? [null] : (ports ?? []),
    );
    const ports = mergedPorts(ranges);
    row.untilMs = Math.max(...live.map(({ untilMs }) => untilMs));
    const seconds = Math.ceil((row.untilMs - nowMs) / 1000);
    const admitted = (ports === "all" ? [null] : ports).map((range) => ({
      address: row.address,
      ports: range,
      seconds,
      proxied,
    }));
    row.admitted = admitted.length;
    return admitted;
  }

  #hasRoom(): boolean {
    const nowMs = this.#clock.monotonicMs();
    const open = { 4: 0, 6: 0 };
    for (const { address, admitted, untilMs } of this.#rows.values())
      if (untilMs > nowMs) open[address.family] += admitted;
    return Math.max(open[4], open[6]) <= LIMITS.egressAddresses;
  }
}
