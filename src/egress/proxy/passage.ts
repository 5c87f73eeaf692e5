/** One connection of the guest with all that belongs to it, so that ending it leaves nothing; and what all of them share. */
import type { Duplex } from "node:stream";
import type { SecureContext } from "node:tls";
import { formatAddress, type IpAddress } from "../../base/address.ts";
import { WarrenError } from "../../errors.ts";
import { BOUNDS } from "./bounds.ts";
import type { Vault } from "./secrets.ts";
import type { ProxyOptions } from "./types.ts";
import type { Upstream } from "./upstream.ts";
import { Deadline, Wire } from "./wire.ts";

/** What `update` changes; read anew for each connection and request. */
export interface Policy {
  readonly permits: ProxyOptions["permits"];
  readonly vault: Vault;
  readonly inspect: boolean;
}

export interface Outcome {
  readonly name: string | null;
  readonly port: number | null;
  readonly address?: IpAddress;
  readonly verdict: "allowed" | "refused";
  readonly reason: string | null;
}

/** Of one proxy. */
export interface Setting {
  readonly options: Omit<ProxyOptions, "permits" | "secrets" | "inspect">;
  policy: Policy;
  /** Server contexts by name, with the certificate that each is of. */
  readonly contexts: Map<string, { readonly certPem: string; readonly context: SecureContext }>;
}

/** Where a passage goes. */
export interface Destination {
  readonly name: string;
  readonly port: number;
}

export class Passage {
  readonly setting: Setting;
  readonly deadline: Deadline;
  readonly #raw: Duplex;
  readonly #gone = new AbortController();
  guest: Wire;
  upstream: Upstream | null = null;
  /** What is under way now; null between two requests. */
  carrying: Destination | null = null;

  constructor(setting: Setting, raw: Duplex) {
    this.setting = setting;
    this.#raw = raw;
    this.guest = new Wire(raw);
    this.deadline = new Deadline(setting.options.clock, () => this.end());
  }

  /** Aborted when the passage has ended. */
  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  /** Bytes moved. */
  readonly moved = (): void => this.deadline.touch();

  /** At once; more than once does no harm. */
  end(): void {
    this.deadline.clear();
    this.#gone.abort(new WarrenError("cancelled", "the connection was closed"));
    this.upstream?.wire.destroy();
    this.guest.destroy();
    this.#raw.destroy();
  }

  /** Ends the connection so that the last answer arrives: what the guest was still sending is read for a while. */
  async farewell(): Promise<void> {
    await this.guest.end();
    this.deadline.set(BOUNDS.lingerMs);
    let left: number = BOUNDS.lingerBytes;
    for (let bytes = await this.guest.read(); bytes !== null && left > 0; bytes = await this.guest.read()) {
      left -= bytes.length;
    }
  }

  /** False once the policy has turned against what is under way. */
  get stillPermitted(): boolean {
    return this.carrying === null || this.setting.policy.permits(this.carrying.name, this.carrying.port);
  }

  /** Exactly one for each spliced connection and each request. Never throws: who listens must not decide what goes through. */
  report({ name, port, address, verdict, reason }: Outcome): void {
    const { clock, onRequest, log } = this.setting.options;
    const at = new Date(clock.wallMs()).toISOString();
    const where = address === undefined ? null : formatAddress(address);
    try {
      onRequest({ at, kind: "request", name, address: where, port, protocol: "tcp", verdict, reason });
    } catch (error) {
      log.warn("an egress event was not taken", { error: String(error) });
    }
  }
}
