/**
 * The egress of one sandbox while it lives: its policy, the kernel's rules for it, its name server and its proxy. A policy is
 * replaced as a whole; what is open and still allowed goes on.
 */
import { networkInterfaces } from "node:os";
import { type AddressRange, formatAddress, type IpAddress, parseAddress, unmapped } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import { isForbidden } from "../base/forbidden.ts";
import type { Log } from "../base/log.ts";
import { Mailbox } from "../base/mailbox.ts";
import type { NetworkEvent } from "../contract/routes/network.ts";
import { WarrenError } from "../errors.ts";
import type { Network, NetworkUsage } from "../host/network.ts";
import { Answered } from "./answered.ts";
import { listenForNames, type NameListener } from "./dns/listener.ts";
import { Resolver } from "./dns/resolver.ts";
import type { NameServer } from "./dns/upstream.ts";
import { Events } from "./events.ts";
import { type Policy, parsePolicy, permits, permitsAddress, rulesOf, wantsProxy } from "./policy.ts";
import { createAuthority } from "./proxy/ca/authority.ts";
import { startProxy } from "./proxy/proxy.ts";
import type { CertificateAuthority, EgressProxy } from "./proxy/types.ts";

export interface EgressParts {
  readonly clock: Clock;
  readonly log: Log;
  /** Name servers of this host, in the order in which they are asked. */
  readonly upstreams: readonly NameServer[];
  /** Ranges that are not public and may be reached all the same. */
  readonly exempt: readonly AddressRange[];
  readonly sandboxId: string;
}

const OWN_ADDRESSES_MS = 5_000;

export class SandboxEgress {
  readonly #network: Network;
  readonly #parts: EgressParts;
  readonly #answered: Answered;
  readonly #events: Events;
  readonly #resolver: Resolver;
  readonly #changes = new Mailbox<"policy">();
  #policy: Policy = parsePolicy({ mode: "none" }, []);
  #names: NameListener | null = null;
  #proxy: EgressProxy | null = null;
  /** Of the hosts with a secret; the guest believes it from its start, so it stays the same. */
  #authority: CertificateAuthority | null = null;
  #used: NetworkUsage | null = null;
  #own: { readonly untilMs: number; readonly addresses: ReadonlySet<string> } = { untilMs: 0, addresses: new Set() };
  #closed = false;

  private constructor(network: Network, parts: EgressParts) {
    this.#network = network;
    this.#parts = parts;
    this.#answered = new Answered(parts.clock);
    this.#events = new Events(parts.clock);
    this.#resolver = new Resolver({
      ...parts,
      ipv6: network.ipv6,
      permits: (name) => permits(this.#policy, name),
      admit: (name, addresses, seconds) => {
        const admitted = this.#answered.answer(this.#policy, name, addresses, seconds);
        if (admitted.length > 0) network.admit(admitted);
      },
      onResolved: (event) => this.#events.resolved(event),
    });
  }

  /** Rules in force and name server listening when it resolves. @throws {WarrenError} `driver_failed` – nothing is left of it */
  static async open(network: Network, policy: Policy, parts: EgressParts): Promise<SandboxEgress> {
    const egress = new SandboxEgress(network, parts);
    try {
      await egress.change(policy);
    } catch (error) {
      await egress.close();
      throw error;
    }
    return egress;
  }

  get policy(): Policy {
    return this.#policy;
  }

  /** For the guest's trust store (PEM); null while no host has had a secret. */
  get certificatePem(): string | null {
    return this.#authority?.certificatePem ?? null;
  }

  /**
   * In force when it resolves; one after another.
   * @throws {WarrenError} `driver_failed` – the policy before is still in force; `wrong_state` – it is closed
   */
  change(policy: Policy): Promise<void> {
    return this.#changes.run("policy", async () => {
      if (this.#closed) throw new WarrenError("wrong_state", `the network of ${this.#parts.sandboxId} is closed`);
      await this.#change(policy);
    });
  }

  /** As it was last, once the network is gone; null when it was never there. */
  usage(): NetworkUsage | null {
    this.#used = this.#network.usage() ?? this.#used;
    return this.#used;
  }

  /** Oldest first, and how many were not kept. Reading it again gives the same and what came since. */
  log(): { events: NetworkEvent[]; lost: number } {
    this.#collect();
    return this.#events.read();
  }

  /** Nothing leaves any more, and nothing listens. Does not fail. */
  close(): Promise<void> {
    return this.#changes.run("policy", async () => {
      if (this.#closed) return;
      this.#closed = true;
      this.#policy = parsePolicy({ mode: "none" }, []);
      this.#collect();
      this.#used = this.#network.usage() ?? this.#used;
      if (this.#network.usage() !== null) this.#applyNone();
      await this.#stop(this.#names, this.#proxy);
    });
  }

  async #change(policy: Policy): Promise<void> {
    const before = { policy: this.#policy, names: this.#names, proxy: this.#proxy };
    const authority = this.#authorityFor(policy);
    const kept = authority === this.#authority ? before.proxy : null;
    const names = policy.mode === "none" ? null : (before.names ?? (await this.#startNames()));
    let proxy: EgressProxy | null = null;
    try {
      proxy = wantsProxy(policy) ? (kept ?? (await this.#startProxy(policy, authority))) : null;
      // Before the rules: nothing is opened any more for the policy before, by a name whose answer is under way.
      this.#policy = policy;
      const ports = { dnsPort: names?.port ?? null, proxyPort: proxy?.port ?? null };
      this.#collect(); // under the names that were answered until now
      this.#network.apply(rulesOf(policy, { ...ports, exempt: this.#parts.exempt }));
    } catch (error) {
      this.#policy = before.policy;
      await this.#stop(names === before.names ? null : names, proxy === before.proxy ? null : proxy);
      throw error;
    }
    this.#readmit();
    proxy?.update({ permits: this.#permits, secrets: policy.secrets, inspect: policy.inspect });
    this.#names = names;
    this.#proxy = proxy;
    this.#authority = authority;
    await this.#stop(before.names === names ? null : before.names, before.proxy === proxy ? null : before.proxy);
  }

  #readmit(): void {
    const { log, sandboxId } = this.#parts;
    const admitted = this.#answered.again(this.#policy);
    try {
      if (admitted.length > 0) this.#network.admit(admitted);
    } catch (error) {
      // The rules are in force, and closed rather than open: names can be asked for again.
      log.warn("addresses stay closed over a change of policy", { sandboxId, why: String(error) });
    }
  }

  #startNames(): Promise<NameListener> {
    const { clock, log, sandboxId } = this.#parts;
    return listenForNames({
      hostname: this.#network.hostAddress,
      clock,
      answer: (name, type) =>
        this.#resolver.answer(name, type).catch((error: unknown) => {
          log.error("a name could not be answered", { sandboxId, why: String(error) });
          throw error;
        }),
      onDropped: () => this.#events.dropped(),
    });
  }

  #startProxy(policy: Policy, authority: CertificateAuthority | null): Promise<EgressProxy> {
    const { clock, log } = this.#parts;
    return startProxy({
      hostname: this.#network.hostAddress,
      alsoOn: this.#network.hostAddress6,
      permits: this.#permits,
      secrets: policy.secrets,
      inspect: policy.inspect,
      resolve: (name) => this.resolve(name),
      ca: authority,
      clock,
      log,
      onRequest: (event) => this.#events.requested(event),
    });
  }

  /** The one there is, as long as it is good for all hosts that have a secret: it is good for no others. */
  #authorityFor(policy: Policy): CertificateAuthority | null {
    const hosts = [...new Set(policy.secrets.map(({ host }) => host))];
    if (hosts.every((host) => this.#authority?.names.includes(host) === true)) return this.#authority;
    return createAuthority(this.#parts.clock, hosts);
  }

  readonly #permits = (name: string, port: number): boolean => {
    const address = parseAddress(name);
    return address === null ? permits(this.#policy, name, port) : permitsAddress(this.#policy, unmapped(address), port);
  };

  /** Where the proxy may connect to for a name, or an address as text. It connects from this host: never to this host. */
  async resolve(name: string): Promise<readonly IpAddress[]> {
    const literal = parseAddress(name);
    const address = literal === null ? null : unmapped(literal);
    if (address === null) return (await this.#resolver.addresses(name)).filter((one) => !this.#isOwn(one));
    const { exempt } = this.#parts;
    const reached = address.family === 4 || this.#network.ipv6;
    const allowed = permitsAddress(this.#policy, address) && !isForbidden(address, exempt) && !this.#isOwn(address);
    return reached && allowed ? [address] : [];
  }

  #isOwn(address: IpAddress): boolean {
    const nowMs = this.#parts.clock.monotonicMs();
    if (this.#own.untilMs <= nowMs) {
      const all = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
      const parsed = all.map((each) => parseAddress(each.address)).filter((each) => each !== null);
      this.#own = { untilMs: nowMs + OWN_ADDRESSES_MS, addresses: new Set(parsed.map(formatAddress)) };
    }
    return this.#own.addresses.has(formatAddress(address));
  }

  #collect(): void {
    const { rows, lost } = this.#network.tried();
    this.#events.tried(rows, lost, (address) => this.#answered.nameOf(address));
  }

  #applyNone(): void {
    const ports = { dnsPort: null, proxyPort: null };
    try {
      this.#network.apply(rulesOf(this.#policy, { ...ports, exempt: [] }));
    } catch (error) {
      // It went between the look and the call, or is about to with its sandbox.
      this.#parts.log.debug("rules of a closed network", { sandboxId: this.#parts.sandboxId, why: String(error) });
    }
  }

  async #stop(names: NameListener | null, proxy: EgressProxy | null): Promise<void> {
    names?.close();
    await proxy?.close();
  }
}
