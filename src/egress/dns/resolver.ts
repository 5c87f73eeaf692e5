/**
 * The answers of one sandbox's name server: only names that its policy permits, only addresses that may be reached, and
 * those are opened before the sandbox hears of them.
 */
import { formatAddress, type IpAddress } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import { nameFault } from "../entries.ts";
import { DNS } from "./bounds.ts";
import { type Answer, failed } from "./encode.ts";
import { type AddressType, type Kept, Lookup, type LookupParts } from "./lookup.ts";
import { RCODE, TYPE } from "./message.ts";

export interface Resolved {
  readonly name: string;
  readonly address: string | null;
  readonly verdict: "allowed" | "refused";
  readonly reason: string | null;
}

export interface ResolverParts extends LookupParts {
  /** Asked before a name is looked up and again before it is answered. */
  readonly permits: (name: string) => boolean;
  /** Whether IPv6 can be reached. */
  readonly ipv6: boolean;
  /** Opens addresses of a name for their time; what it throws becomes SERVFAIL. */
  readonly admit: (name: string, addresses: readonly IpAddress[], seconds: number) => void;
  readonly onResolved: (event: Resolved) => void;
}

/** Types from here to 255 are not of records, but of questions such as ANY and AXFR (RFC 6895, 3.1). */
const QUESTION_TYPES = 128;
const QUESTION_TYPES_END = 255;

const empty: Answer = { rcode: RCODE.NOERROR, addresses: [], ttlSeconds: 0 };
const missing: Answer = { rcode: RCODE.NXDOMAIN, addresses: [], ttlSeconds: 0 };

export class Resolver {
  readonly #parts: ResolverParts;
  readonly #lookup: Lookup;
  readonly #clock: Clock;

  constructor(parts: ResolverParts) {
    this.#parts = parts;
    this.#lookup = new Lookup(parts);
    this.#clock = parts.clock;
  }

  /** To a query of the sandbox. Never rejects for what comes from outside. */
  async answer(name: string, type: number): Promise<Answer> {
    const refusal = this.#refusal(name);
    if (refusal !== null) return this.#refused(name, refusal, missing);
    if (type >= QUESTION_TYPES && type <= QUESTION_TYPES_END)
      return this.#refused(name, `type ${type} is not answered`, { ...failed, rcode: RCODE.REFUSED });
    if (type !== TYPE.A && (type !== TYPE.AAAA || !this.#parts.ipv6)) return empty;
    const found = await this.#lookup.find(name, type);
    // The policy may have changed meanwhile.
    const late = this.#refusal(name);
    if (late !== null) return this.#refused(name, late, missing);
    return this.#answered(name, found);
  }

  /** Of a permitted name, without opening them; empty when there are none. */
  async addresses(name: string): Promise<readonly IpAddress[]> {
    if (this.#refusal(name) !== null) return [];
    const types: AddressType[] = this.#parts.ipv6 ? [TYPE.A, TYPE.AAAA] : [TYPE.A];
    const found = await Promise.all(types.map((type) => this.#lookup.find(name, type)));
    return found.flatMap((one) => (one.kind === "found" ? one.addresses : []));
  }

  #refusal(name: string): string | null {
    const fault = nameFault(name);
    if (fault !== null) return fault;
    return this.#parts.permits(name) ? null : "the policy does not hold it";
  }

  #refused(name: string, reason: string, answer: Answer): Answer {
    this.#parts.onResolved({ name, address: null, verdict: "refused", reason });
    return answer;
  }

  #answered(name: string, found: Kept): Answer {
    switch (found.kind) {
      case "empty":
        return empty;
      case "missing":
        this.#parts.onResolved({ name, address: null, verdict: "allowed", reason: "there is no such name" });
        return missing;
      case "forbidden":
        return this.#refused(name, found.why, missing);
      case "failed":
        this.#parts.onResolved({ name, address: null, verdict: "allowed", reason: found.why });
        return failed;
      case "found": {
        const leftSeconds = Math.max(0, found.untilMs - this.#clock.monotonicMs()) / 1000;
        const openSeconds = Math.max(DNS.ttlSecondsMin, Math.ceil(leftSeconds)) + DNS.graceSeconds;
        try {
          this.#parts.admit(name, found.addresses, openSeconds);
        } catch (error) {
          const why = error instanceof Error ? error.message : String(error);
          this.#parts.onResolved({ name, address: null, verdict: "allowed", reason: `not opened: ${why}` });
          return failed;
        }
        const address = found.addresses[0] === undefined ? null : formatAddress(found.addresses[0]);
        this.#parts.onResolved({ name, address, verdict: "allowed", reason: null });
        return { rcode: RCODE.NOERROR, addresses: found.addresses, ttlSeconds: Math.max(1, Math.floor(leftSeconds)) };
      }
    }
  }
}
