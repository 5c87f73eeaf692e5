/**
 * What Warren has in this process's own network namespace beside the links to slots: one table of rules, and forwarding.
 * Every process of the host sees to it for itself, and finds it done by others: nothing here counts on being the only one.
 */
import { closeAll, closeFd } from "../../../ffi/files.ts";
import { detachedMount } from "../../../ffi/mounts.ts";
import { hasCode } from "../../../ffi/native.ts";
import { filterDumps, NETLINK_NETFILTER, NETLINK_ROUTE, openNetlink } from "../../../ffi/net/netlink.ts";
import type { Clock } from "../../base/clock.ts";
import { LIMITS } from "../../limits.ts";
import { Attributes } from "./answer.ts";
import { forward, ownForwarding, readIpv6 } from "./forwarding.ts";
import { Netlink, NLM_F_ACK, NLM_F_DUMP } from "./message.ts";
import { tableMessage } from "./nft/batch.ts";
import { FAMILY, MSG, SUBSYSTEM, TABLE } from "./nft/names.ts";
import { closeHostPorts, installRootTable, openHostPorts, rootTableIsWhole } from "./nft/root.ts";
import { type Ipv6, NO_IPV6, ROOT_DEVICE } from "./plan.ts";
import { readLinks } from "./read.ts";
import { setForwarding } from "./route.ts";

const [BATCH_BEGIN, BATCH_END] = [16, 17];

/** What the kernel calls the table; another one of the same name is called otherwise. Null: there is none. */
function handleOf(netfilter: Netlink): bigint | null {
  tableMessage(netfilter, "list tables", MSG.getTable, NLM_F_DUMP).end();
  const tables = netfilter.dump().map(({ body }) => ({ family: body[0], of: new Attributes(body, 4) }));
  return tables.find(({ family, of }) => family === FAMILY.inet && of.text(1) === TABLE)?.of.be64(4) ?? null;
}

function removeTable(netfilter: Netlink): void {
  netfilter.begin("nftables: begin", BATCH_BEGIN).u8(0).u8(0).be16(SUBSYSTEM).end();
  tableMessage(netfilter, "remove the table", MSG.delTable, NLM_F_ACK).attrText(1, TABLE).end();
  netfilter.begin("nftables: end", BATCH_END).u8(0).u8(0).be16(SUBSYSTEM).end();
  netfilter.flush();
}

/** Also in the place of another version's, whose chains and sets are of other kinds. */
function install(netfilter: Netlink, own: readonly string[]): void {
  try {
    installRootTable(netfilter, { ownForwarding: own });
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
    removeTable(netfilter);
    installRootTable(netfilter, { ownForwarding: own });
  }
}

/**
 * Undoes all of it, unless some slot's link is still there. @returns whether it is gone
 * @throws {NativeError} as `ensure` does
 */
export function removeRootShare(): boolean {
  const sockets = [openNetlink(NETLINK_ROUTE), openNetlink(NETLINK_NETFILTER)] as const;
  try {
    const [route, netfilter] = [new Netlink(sockets[0]), new Netlink(sockets[1])];
    if (readLinks(route).some(({ name }) => ROOT_DEVICE.test(name))) return false;
    if (handleOf(netfilter) === null) return true;
    const { named } = ownForwarding(route, netfilter, []);
    for (const name of named) setForwarding(route, name, false);
    route.flush();
    removeTable(netfilter);
    return true;
  } finally {
    closeAll(sockets);
  }
}

export class RootShare {
  readonly #clock: Clock;
  readonly #opened: () => void;
  #sockets: { readonly route: number; readonly netfilter: number } | null = null;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #ipv6 = NO_IPV6;
  /** Which table it was at the last look: ports that were open in another one have to be opened anew. */
  #table: bigint | null = null;
  /** Devices whose forwarding is on for sandboxes alone. */
  #own: readonly string[] = [];
  /** Of this process's own sandboxes, for when somebody flushes all rules of the host. */
  readonly #ports = new Map<string, readonly number[]>();
  #proc: { readonly fd: number; used: number } | null = null;

  /** Opens nothing yet. @param opened told whenever something is open from then on, until `close` */
  constructor(clock: Clock, opened: () => void = () => undefined) {
    this.#clock = clock;
    this.#opened = opened;
  }

  /** An rtnetlink socket of this process's own namespace. @throws {NativeError} */
  get route(): number {
    return this.#open().route;
  }

  /** @throws {NativeError} `EPROTONOSUPPORT` – this kernel has no netfilter netlink */
  get netfilter(): number {
    return this.#open().netfilter;
  }

  #open(): { readonly route: number; readonly netfilter: number } {
    if (this.#sockets !== null) return this.#sockets;
    const route = openNetlink(NETLINK_ROUTE);
    try {
      filterDumps(route);
      this.#sockets = { route, netfilter: openNetlink(NETLINK_NETFILTER) };
    } catch (error) {
      closeFd(route);
      throw error;
    }
    this.#opened();
    return this.#sockets;
  }

  /** As of the last look. */
  get ipv6(): Ipv6 {
    return this.#ipv6;
  }

  /**
   * Sees to the table and to forwarding, at most every few seconds: devices come and go.
   * @throws {NativeError} naming what this kernel or these rights do not allow
   */
  ensure(): void {
    const now = this.#clock.monotonicMs();
    if (now - this.#lookedAtMs < LIMITS.networkLookMs) return;
    this.#ipv6 = readIpv6();
    const rules = new Netlink(this.netfilter);
    // One that was just opened may find the table of another version of this program, which looks whole to it.
    const whole = this.#table !== null && rootTableIsWhole(rules);
    const { wanted, named } = ownForwarding(new Netlink(this.route), rules, this.#own);
    const same = wanted.length === named.length && wanted.every((name) => named.includes(name));
    // First the refusals, then what makes them necessary.
    if (!whole || !same) install(rules, wanted);
    const table = handleOf(rules);
    if (table !== this.#table) for (const [device, ports] of this.#ports) openHostPorts(rules, device, ports);
    this.#table = table;
    this.#own = wanted;
    forward(new Netlink(this.route), wanted);
    this.#lookedAtMs = now;
  }

  /** Lets a slot reach these ports of its `hostAddress`, and no others any more. @throws {NativeError} */
  openPorts(device: string, ports: readonly number[]): void {
    const before = this.#ports.get(device) ?? [];
    this.#ports.set(device, ports);
    if (ports.length === 0 && before.length === 0) return;
    try {
      openHostPorts(new Netlink(this.netfilter), device, ports);
    } catch (error) {
      if (!hasCode(error, "ENOENT")) throw error;
      this.#lookedAtMs = Number.NEGATIVE_INFINITY;
      this.ensure();
    }
  }

  closePorts(device: string): void {
    const open = (this.#ports.get(device) ?? []).length > 0;
    this.#ports.delete(device);
    if (!open) return;
    try {
      closeHostPorts(new Netlink(this.netfilter), device);
    } catch (error) {
      if (!hasCode(error, "ENOENT")) throw error; // no table, no open port
    }
  }

  /**
   * A procfs of its own for every few namespaces: the kernel finds a namespace's switches in a chain of all those that were
   * looked up through the same mount.
   */
  procFd(): number {
    if (this.#proc === null || this.#proc.used >= LIMITS.namespacesPerProc) {
      if (this.#proc !== null) closeFd(this.#proc.fd);
      this.#proc = null;
      this.#proc = { fd: detachedMount("proc", {}), used: 0 };
    }
    this.#proc.used += 1;
    return this.#proc.fd;
  }

  /** Closes what is open; it is opened anew when it is needed. */
  close(): void {
    closeAll([this.#sockets?.route ?? null, this.#sockets?.netfilter ?? null, this.#proc?.fd ?? null]);
    this.#sockets = null;
    this.#proc = null;
    this.#lookedAtMs = Number.NEGATIVE_INFINITY;
    this.#table = null;
  }
}
