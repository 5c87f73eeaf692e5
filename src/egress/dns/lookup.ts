/**
 * The addresses of a name, as this host's name servers give them: aliases followed, forbidden addresses left out, answers
 * kept for their time, and one question under way for any number of askers.
 */
import { type AddressRange, formatAddress, type IpAddress, unmapped } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import { isForbidden } from "../../base/forbidden.ts";
import { nameFault } from "../entries.ts";
import { DNS } from "./bounds.ts";
import { type Message, RCODE, type TYPE } from "./message.ts";
import { askUpstream, type NameServer, NoAnswer, PLACES, type Places } from "./upstream.ts";

export type AddressType = typeof TYPE.A | typeof TYPE.AAAA;

export type Found =
  | { readonly kind: "found"; readonly addresses: readonly IpAddress[] }
  /** The name is there, without an address of this type. */
  | { readonly kind: "empty" }
  | { readonly kind: "missing" }
  /** All that it has is not to be reached. */
  | { readonly kind: "forbidden"; readonly why: string }
  | { readonly kind: "failed"; readonly why: string };

/** With the monotonic time in milliseconds until which it is good. */
export type Kept = Found & { readonly untilMs: number };

export interface LookupParts {
  readonly clock: Clock;
  readonly upstreams: readonly NameServer[];
  readonly exempt: readonly AddressRange[];
  /** For sockets to them; the process's unless said otherwise. */
  readonly places?: Places;
}

/** What one message says: addresses at the end of a chain of aliases, or where the chain goes on. */
export type Said =
  | { readonly kind: "addresses"; readonly addresses: readonly IpAddress[]; readonly ttlSeconds: number }
  | { readonly kind: "alias"; readonly name: string; readonly ttlSeconds: number };

/** What `message` says of a name that it was asked for. @throws {NoAnswer} for a chain that is a loop or too long */
export function follow(message: Message, asked: string, type: AddressType): Said {
  let [name, ttlSeconds] = [asked, Infinity as number];
  for (const seen = new Set<string>(); ; ) {
    const rows = message.answers.filter((row) => row.name === name && row.type === type && row.address !== null);
    if (rows.length > 0) {
      const addresses = rows.map(({ address }) => address).filter((address) => address !== null);
      return { kind: "addresses", addresses, ttlSeconds: Math.min(ttlSeconds, ...rows.map((row) => row.ttlSeconds)) };
    }
    const alias = message.answers.find((row) => row.name === name && row.target !== null);
    if (alias?.target == null) break;
    seen.add(name);
    if (seen.has(alias.target)) throw new NoAnswer("its aliases go in a circle");
    if (seen.size > DNS.aliases) throw new NoAnswer(`it has more than ${DNS.aliases} aliases`);
    name = alias.target;
    ttlSeconds = Math.min(ttlSeconds, alias.ttlSeconds);
  }
  return name === asked ? { kind: "addresses", addresses: [], ttlSeconds: 0 } : { kind: "alias", name, ttlSeconds };
}

export class Lookup {
  readonly #parts: LookupParts;
  readonly #kept = new Map<string, Kept>();
  readonly #underWay = new Map<string, Promise<Kept>>();

  constructor(parts: LookupParts) {
    this.#parts = parts;
  }

  /** Never rejects. `name` is one that `nameFault` has nothing against. */
  async find(name: string, type: AddressType): Promise<Kept> {
    const key = `${type} ${name}`;
    const kept = this.#kept.get(key);
    if (kept !== undefined && kept.untilMs > this.#parts.clock.monotonicMs()) return kept;
    let asking = this.#underWay.get(key);
    if (asking === undefined) {
      asking = this.#ask(name, type).finally(() => this.#underWay.delete(key));
      this.#underWay.set(key, asking);
    }
    return asking;
  }

  async #ask(name: string, type: AddressType): Promise<Kept> {
    const { clock } = this.#parts;
    const { found, ttlSeconds } = await this.#chain(name, type).catch((error: unknown) => {
      if (!(error instanceof NoAnswer)) throw error;
      return { found: { kind: "failed", why: error.message } as const, ttlSeconds: 0 };
    });
    const kept = { ...found, untilMs: clock.monotonicMs() + ttlSeconds * 1000 };
    if (found.kind !== "failed") this.#keep(`${type} ${name}`, kept);
    return kept;
  }

  #keep(key: string, kept: Kept): void {
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= DNS.cacheRows) break;
      this.#kept.delete(oldest);
    }
  }

  /** @throws {NoAnswer} */
  async #chain(asked: string, type: AddressType): Promise<{ found: Found; ttlSeconds: number }> {
    const { clock, upstreams: servers, places = PLACES } = this.#parts;
    const endMs = clock.monotonicMs() + DNS.lookupMs;
    const seen = new Set<string>();
    for (let name = asked, ttlSeconds = Infinity; ; ) {
      seen.add(name);
      if (seen.size > DNS.aliases) throw new NoAnswer(`it has more than ${DNS.aliases} aliases`);
      const message = await askUpstream({ servers, clock, places }, { name, type, endMs });
      const said = follow(message, name, type);
      ttlSeconds = Math.min(ttlSeconds, said.ttlSeconds);
      if (said.kind === "addresses") return this.#judged(message, said.addresses, ttlSeconds);
      if (message.rcode === RCODE.NXDOMAIN) return { found: { kind: "missing" }, ttlSeconds: DNS.negativeSeconds };
      if (seen.has(said.name)) throw new NoAnswer("its aliases go in a circle");
      const fault = nameFault(said.name);
      if (fault !== null) throw new NoAnswer(`it is an alias of what ${fault}`);
      name = said.name;
    }
  }

  #judged(message: Message, all: readonly IpAddress[], ttlSeconds: number): { found: Found; ttlSeconds: number } {
    // An IPv4 address inside of IPv6 would be connected to over IPv4, for which nothing is opened.
    const own = all.filter((address) => unmapped(address) === address);
    const addresses = own.filter((address) => !isForbidden(address, this.#parts.exempt));
    if (addresses.length > 0) {
      const good = Math.min(DNS.ttlSecondsMax, Math.max(DNS.ttlSecondsMin, ttlSeconds));
      return { found: { kind: "found", addresses: addresses.slice(0, DNS.addresses) }, ttlSeconds: good };
    }
    const [first] = all;
    if (first !== undefined) {
      const why = `it stands for ${formatAddress(first)}, which no sandbox may reach`;
      return { found: { kind: "forbidden", why }, ttlSeconds: DNS.negativeSeconds };
    }
    const kind = message.rcode === RCODE.NXDOMAIN ? "missing" : "empty";
    return { found: { kind }, ttlSeconds: DNS.negativeSeconds };
  }
}
