/** What a sandbox tried to reach, as its owner reads it: bounded, the newest kept, and what repeats within a minute is one row. */
import { formatAddress, type IpAddress } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import type { NetworkEvent } from "../contract/routes/network.ts";
import type { Tried } from "../host/network.ts";
import { LIMITS } from "../limits.ts";
import type { Resolved } from "./dns/resolver.ts";

interface Row {
  readonly atMs: number;
  readonly event: NetworkEvent;
}

const MINUTE_MS = 60_000;

export class Events {
  readonly #clock: Clock;
  #rows: Row[] = [];
  #lost = 0;
  /** What the rows of the minute at hand say. */
  #minute = { number: 0, said: new Set<string>() };

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  resolved({ name, address, verdict, reason }: Resolved): void {
    const plain = { kind: "dns", name, address, port: null, protocol: "udp", verdict, reason } as const;
    if (this.#isNew(`dns ${name} ${verdict} ${reason}`)) this.#put(this.#clock.wallMs(), plain);
  }

  /** Queries that had no place. */
  dropped(): void {
    const plain = { kind: "dns", name: null, address: null, port: null, protocol: "udp", verdict: "refused" } as const;
    const reason = "too many names asked for at once";
    if (this.#isNew(`dns ${reason}`)) this.#put(this.#clock.wallMs(), { ...plain, reason });
  }

  requested(event: NetworkEvent): void {
    const { name, address, port, verdict, reason } = event;
    if (!this.#isNew(`request ${name} ${address} ${port} ${verdict} ${reason}`)) return;
    const atMs = Date.parse(event.at);
    this.#put(Number.isNaN(atMs) ? this.#clock.wallMs() : atMs, event);
  }

  /** Connections that the kernel saw, and how many it had no place for. */
  tried(rows: readonly Tried[], lost: number, nameOf: (address: IpAddress) => string | null): void {
    this.#lost += lost;
    for (const { atMs, address, protocol, port, verdict } of rows) {
      const reason = verdict === "refused" ? "the policy does not hold it, or a limit was reached" : null;
      const [name, text] = [nameOf(address), formatAddress(address)];
      this.#put(atMs, { kind: "connection", name, address: text, port, protocol, verdict, reason });
    }
  }

  /** Oldest first. */
  read(): { readonly events: NetworkEvent[]; readonly lost: number } {
    this.#cut();
    this.#rows.sort((a, b) => a.atMs - b.atMs);
    return { events: this.#rows.map(({ event }) => event), lost: this.#lost };
  }

  #isNew(key: string): boolean {
    const number = Math.floor(this.#clock.wallMs() / MINUTE_MS);
    if (number !== this.#minute.number || this.#minute.said.size > LIMITS.egressLogRows)
      this.#minute = { number, said: new Set() };
    const { said } = this.#minute;
    return said.size < said.add(key).size;
  }

  #put(atMs: number, event: Omit<NetworkEvent, "at">): void {
    this.#rows.push({ atMs, event: { ...event, at: new Date(atMs).toISOString() } });
    // A quarter more than is kept, so that it is not gone through for each.
    if (this.#rows.length > LIMITS.egressLogRows * 1.25) this.#cut();
  }

  #cut(): void {
    const over = this.#rows.length - LIMITS.egressLogRows;
    if (over <= 0) return;
    this.#rows = this.#rows.sort((a, b) => a.atMs - b.atMs).slice(over);
    this.#lost += over;
  }
}
