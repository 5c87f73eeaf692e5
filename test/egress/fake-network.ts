/** A network in memory: what it was told, and which addresses are open by that now. */
import { formatAddress, type IpAddress, type PortRange } from "../../src/base/address.ts";
import type { Clock } from "../../src/base/clock.ts";
import type { Admitted, EgressRules, Network, NetworkUsage, Tried } from "../../src/host/network.ts";

interface Open {
  readonly ports: PortRange | null;
  readonly untilMs: number;
  readonly proxied: boolean;
}

export class FakeNetwork implements Network {
  readonly hostAddress: string;
  readonly hostAddress6 = null;
  readonly ipv6: boolean;
  /** In the order in which they came. */
  readonly told: (EgressRules | readonly Admitted[])[] = [];
  tries: Tried[] = [];
  used: NetworkUsage | null = { bytesOut: 1, bytesIn: 2, connections: 3, refused: 4 };
  /** Thrown by the next call that changes something. */
  breaks: Error | null = null;
  readonly #clock: Clock;
  #open = new Map<string, readonly Open[]>();

  constructor(clock: Clock, hostAddress = "127.0.0.1", ipv6 = true) {
    this.#clock = clock;
    this.hostAddress = hostAddress;
    this.ipv6 = ipv6;
  }

  get rules(): EgressRules {
    const rules = this.told.findLast((one): one is EgressRules => "mode" in one);
    if (rules === undefined) throw new Error("no rules were applied");
    return rules;
  }

  apply(rules: EgressRules): void {
    this.#break();
    this.told.push(rules);
    this.#open = new Map();
  }

  admit(list: readonly Admitted[]): void {
    this.#break();
    this.told.push(list);
    const nowMs = this.#clock.monotonicMs();
    for (const [text, rows] of Map.groupBy(list, ({ address }) => formatAddress(address)))
      this.#open.set(
        text,
        rows.map(({ ports, seconds, proxied }) => ({ ports, proxied, untilMs: nowMs + seconds * 1000 })),
      );
  }

  usage(): NetworkUsage | null {
    return this.used;
  }

  tried(): { rows: readonly Tried[]; lost: number } {
    return { rows: this.tries.splice(0), lost: 0 };
  }

  /** What is open of an address: `443`, `80-90`, `all`, with ` proxied` behind it. */
  open(address: IpAddress | string): string[] {
    const rows = this.#open.get(typeof address === "string" ? address : formatAddress(address)) ?? [];
    return rows
      .filter(({ untilMs }) => untilMs > this.#clock.monotonicMs())
      .map(({ ports, proxied }) => {
        const text = ports === null ? "all" : ports.from === ports.to ? `${ports.from}` : `${ports.from}-${ports.to}`;
        return proxied ? `${text} proxied` : text;
      });
  }

  #break(): void {
    const error = this.breaks;
    this.breaks = null;
    if (error !== null) throw error;
  }
}
