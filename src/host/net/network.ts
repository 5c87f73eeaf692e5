/** The network of one sandbox: what the rest may do with it, over whichever way leads into its namespace. */
import { close } from "node:fs";
import { closeAll, closeFd } from "../../../ffi/files.ts";
import { hasCode, NativeError } from "../../../ffi/native.ts";
import { enterNamespace, namespaceOf } from "../../../ffi/net/netns.ts";
import type { Clock } from "../../base/clock.ts";
import { randomBytes } from "../../base/id.ts";
import type { VmRef } from "../../driver/driver.ts";
import { WarrenError } from "../../errors.ts";
import type { Admitted, EgressRules, Network, NetworkUsage, Tried } from "../network.ts";
import { hostBootId, startTicksOf } from "../slots/process-name.ts";
import { Netlink } from "./message.ts";
import { admitInto } from "./nft/admit.ts";
import { readTried, readUsage, triedCursor } from "./nft/read.ts";
import { installRules } from "./nft/rules.ts";
import { type SlotAddresses, slotAddresses, slotOfLink, UPLINK_INDEX } from "./plan.ts";
import { readAddresses } from "./read.ts";
import type { RootShare } from "./root.ts";

/** Sockets of rtnetlink and of netfilter in a slot's namespace. */
interface Sockets {
  readonly route: number;
  readonly netfilter: number;
}

/** A way into a namespace. */
export interface Reach {
  /** @throws {NativeError} `ESRCH` – it is gone */
  use<T>(job: (netfilter: Netlink) => T): T;
  /** The same for a job that replaces rules. */
  replace(job: (netfilter: Netlink) => void): void;
}

const ESRCH = 3;

/** By a socket that this process holds, as long as it does. */
export class HeldReach implements Reach {
  #netfilter: number | null;

  constructor(netfilter: number) {
    this.#netfilter = netfilter;
  }

  use<T>(job: (netfilter: Netlink) => T): T {
    if (this.#netfilter === null) throw new NativeError("netlink", ESRCH);
    return job(new Netlink(this.#netfilter));
  }

  replace(job: (netfilter: Netlink) => void): void {
    this.use(job);
  }

  end(): void {
    this.#netfilter = null;
  }
}

/** Through the process of another's sandbox. Holds nothing between calls: a namespace that was kept open would not go with it. */
export class ProcessReach implements Reach {
  readonly #ref: VmRef;

  constructor(ref: VmRef) {
    this.#ref = ref;
  }

  use<T>(job: (netfilter: Netlink) => T): T {
    return this.enter(({ netfilter }) => job(new Netlink(netfilter)));
  }

  /**
   * The kernel ends a socket by which rules were replaced once nobody reads the old ones any more, 10 to 20 ms later: that is
   * waited for in a thread of the runtime's, and not by all that this process has to do.
   */
  replace(job: (netfilter: Netlink) => void): void {
    this.enter(({ netfilter }) => job(new Netlink(netfilter)), closeLater);
  }

  /** @throws {NativeError} `ESRCH` – it is gone */
  enter<T>(job: (sockets: Sockets) => T, closeRules: (fd: number) => void = closeFd): T {
    const ns = this.#open();
    try {
      const sockets = enterNamespace(ns, null);
      try {
        return job(sockets);
      } finally {
        closeFd(sockets.route);
        closeRules(sockets.netfilter);
      }
    } finally {
      closeAll([ns]);
    }
  }

  #open(): number {
    const { pid, startTicks, hostBootId: boot } = this.#ref;
    if (boot !== hostBootId()) throw new NativeError("netns", ESRCH);
    let ns: number;
    try {
      ns = namespaceOf(pid);
    } catch (error) {
      if (hasCode(error, "ENOENT", "ESRCH", "EACCES")) throw new NativeError("netns", ESRCH);
      throw error;
    }
    // It lived after the namespace was opened, so that is its own and not that of a process with a reused pid.
    if (startTicksOf(pid) === startTicks) return ns;
    closeAll([ns]);
    throw new NativeError("netns", ESRCH);
  }
}

function closeLater(fd: number): void {
  close(fd, () => undefined);
}

/** Anything but the last one: connections that older rules let through are told by it. */
function generation(): number {
  return new DataView(randomBytes(4).buffer as ArrayBuffer).getUint32(0) || 1;
}

export class SlotNetwork implements Network {
  readonly hostAddress: string;
  readonly hostAddress6: string | null;
  readonly ipv6: boolean;
  readonly #at: SlotAddresses;
  readonly #root: RootShare;
  readonly #reach: Reach;
  readonly #clock: Clock;
  readonly #cursor = triedCursor();

  constructor(at: SlotAddresses, root: RootShare, reach: Reach, clock: Clock) {
    this.hostAddress = at.hostAddress;
    this.hostAddress6 = root.ipv6.links ? at.hostAddress6 : null;
    this.ipv6 = root.ipv6.forwards;
    this.#at = at;
    this.#root = root;
    this.#reach = reach;
    this.#clock = clock;
  }

  apply(rules: EgressRules): void {
    const ports = [rules.dnsPort, rules.proxyPort].filter((port) => port !== null);
    this.#change(() => {
      this.#reach.replace((nl) => {
        this.#root.openPorts(this.#at.rootDevice, ports);
        installRules(nl, rules, this.#at, generation());
      });
    });
  }

  admit(list: readonly Admitted[]): void {
    this.#change(() => this.#reach.use((nl) => admitInto(nl, list)));
  }

  usage(): NetworkUsage | null {
    return this.#read(() => this.#reach.use(readUsage)) ?? null;
  }

  tried(): { readonly rows: readonly Tried[]; readonly lost: number } {
    const nowMs = this.#clock.wallMs();
    return this.#read(() => this.#reach.use((nl) => readTried(nl, this.#cursor, nowMs))) ?? { rows: [], lost: 0 };
  }

  #change(job: () => void): void {
    try {
      job();
    } catch (cause) {
      if (!(cause instanceof NativeError)) throw cause;
      throw new WarrenError("driver_failed", `the sandbox's network could not be changed: ${cause.message}`, { cause });
    }
  }

  #read<T>(job: () => T): T | null {
    try {
      return job();
    } catch (error) {
      if (hasCode(error, "ESRCH", "ENOENT")) return null; // it is gone
      throw error;
    }
  }
}

/** The network of a sandbox that another process made; null when it has none of Warren's, or is gone. @throws {NativeError} */
export function networkOfProcess(ref: VmRef, root: RootShare, clock: Clock): SlotNetwork | null {
  const reach = new ProcessReach(ref);
  try {
    const addresses = reach.enter(({ route }) => readAddresses(new Netlink(route)));
    const slot = addresses
      .filter(({ index }) => index === UPLINK_INDEX)
      .map(({ address }) => slotOfLink(address))
      .find((found) => found !== null);
    return slot === undefined ? null : new SlotNetwork(slotAddresses(slot), root, reach, clock);
  } catch (error) {
    if (hasCode(error, "ESRCH")) return null;
    throw error;
  }
}
