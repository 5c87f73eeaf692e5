/**
 * Networks for leases: built, lent and taken back, with a few kept ready. Each one that is ready holds its slot's lock, so
 * that a lease has both in one go. While nothing is lent nothing is kept: an idle process holds no slot and no namespace.
 */
import { closeAll, closeFd } from "../../../ffi/files.ts";
import { hasCode, NativeError } from "../../../ffi/native.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { VmRef } from "../../driver/driver.ts";
import { LIMITS } from "../../limits.ts";
import type { Network } from "../network.ts";
import { HeldReach, networkOfProcess, SlotNetwork } from "./network.ts";
import { sameIpv6, slotAddresses } from "./plan.ts";
import { RootShare } from "./root.ts";
import { type BuildGround, buildSlot } from "./slot.ts";
import { type Built, damagesOutside, reset, verify } from "./verify.ts";

/** A slot's lock, and the network that was built for it. */
export interface Prepared {
  readonly slot: number;
  readonly lockFd: number;
  readonly built: Built;
}

/** A network in use. */
export interface Lent {
  readonly network: Network;
  readonly nsFd: number;
  /** It answers no more; what it stood on may be recycled. */
  end(): Built;
}

export interface NetworksOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Locks a slot that nobody has, and about which nothing is in any book; null when there is none at once. */
  readonly lockFree: () => { readonly slot: number; readonly fd: number } | null;
  /** How many are kept ready; 0 builds each when it is asked for and throws it away after. */
  readonly reserve?: number;
  /** Called between the steps of building; may throw what a lesser kernel would. */
  readonly step?: BuildGround["step"];
}

export type Probed =
  | { readonly kind: "works"; readonly tookMs: number }
  | { readonly kind: "failed"; readonly says: string; readonly remedy: string };

interface Kept extends Prepared {
  /** Undone what its last sandbox left. */
  readonly clean: boolean;
  readonly readyAtMs: number;
}

export class Networks {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #lockFree: NetworksOptions["lockFree"];
  readonly #reserve: number;
  readonly #step: BuildGround["step"];
  readonly #root: RootShare;
  #kept: Kept[] = [];
  #lent = 0;
  #lastMs = Number.NEGATIVE_INFINITY;
  #planned: { readonly dueMs: number; cancel(): void } | null = null;
  #degraded: string | null = null;

  constructor({ clock, log, lockFree, reserve = LIMITS.networkReserve, step }: NetworksOptions) {
    this.#clock = clock;
    this.#log = log;
    this.#lockFree = lockFree;
    this.#reserve = reserve;
    this.#step = step;
    this.#root = new RootShare(clock, () => this.#touch());
  }

  /** Why the last network could not be made, and what to do; null when it could, or none was asked for. */
  get degraded(): string | null {
    return this.#degraded;
  }

  /** How many are kept, ready or not. */
  get kept(): number {
    return this.#kept.length;
  }

  /** One that is ready, with its slot, which are the caller's from then on; null when there is none. */
  take(): Prepared | null {
    this.#touch();
    for (;;) {
      const now = this.#clock.monotonicMs();
      const at = this.#kept.findIndex(({ clean, readyAtMs }) => clean && readyAtMs <= now);
      const [found] = at < 0 ? [] : this.#kept.splice(at, 1);
      if (found === undefined) return null;
      const { slot, lockFd, built } = found;
      if (this.#fits(built)) return { slot, lockFd, built };
      this.discard(found);
    }
  }

  /** For whoever holds the slot's lock; null where this host can give none: `degraded` says why. */
  build(slot: number): Built | null {
    this.#touch();
    try {
      const root = this.#root;
      root.ensure();
      const built = this.#make(root, slot);
      this.#degraded = null;
      return built;
    } catch (error) {
      if (!(error instanceof NativeError)) throw error;
      const says = explained(error);
      if (says !== this.#degraded) this.#log.warn("no network can be made", { says });
      this.#degraded = says;
      return null;
    }
  }

  lend(built: Built): Lent {
    this.#lent += 1;
    const root = this.#root;
    const reach = new HeldReach(built.netfilter);
    const network = new SlotNetwork(built.at, root, reach, this.#clock);
    let ended = false;
    return {
      network,
      nsFd: built.ns,
      end: () => {
        if (ended) return built;
        ended = true;
        this.#lent -= 1;
        reach.end();
        this.#closePorts(built);
        if (this.#reserve === 0 && this.#lent === 0) this.release();
        return built;
      },
    };
  }

  /** Takes a slot back after every process of its jail is gone: kept for another sandbox, or closed. */
  give(prepared: Prepared): void {
    if (this.#reserve === 0 || this.#kept.length >= LIMITS.networkKept) this.discard(prepared);
    else {
      const readyAtMs = this.#clock.monotonicMs() + LIMITS.networkRestMs;
      this.#kept.push({ ...prepared, clean: false, readyAtMs });
    }
    this.#touch();
  }

  /** @returns null when the sandbox has none of Warren's, or is gone */
  networkOf(ref: VmRef): Network | null {
    try {
      const root = this.#root;
      root.ensure();
      return networkOfProcess(ref, root, this.#clock);
    } catch (error) {
      if (!(error instanceof NativeError)) throw error;
      this.#log.warn("a sandbox's network cannot be reached", { id: ref.id, says: explained(error) });
      return null;
    }
  }

  /** Makes one, checks it and throws it away. */
  probe(): Probed {
    const startMs = this.#clock.monotonicMs();
    const lock = this.#lockFree();
    if (lock === null) return { kind: "failed", says: "every slot is taken", remedy: "close some sandboxes" };
    try {
      const root = this.#root;
      root.ensure();
      const built = this.#make(root, lock.slot);
      const tookMs = this.#clock.monotonicMs() - startMs;
      const damages = verify(root.route, built);
      closeAll([built.netfilter, built.ns]);
      if (damages.length === 0) return { kind: "works", tookMs };
      const remedy =
        "find out what changes links or rules on this host: a network manager may have to leave wrn* alone";
      return { kind: "failed", says: damages.join("; "), remedy };
    } catch (error) {
      if (!(error instanceof NativeError)) throw error;
      return { kind: "failed", ...explain(error) };
    } finally {
      closeFd(lock.fd);
      if (this.#lent + this.#kept.length === 0) this.release();
    }
  }

  /** Closes all that is kept and not lent. */
  release(): void {
    this.#planned?.cancel();
    this.#planned = null;
    for (const kept of this.#kept.splice(0)) this.discard(kept);
    if (this.#lent === 0) this.#root.close();
  }

  #make(root: RootShare, slot: number): Built {
    const at = slotAddresses(slot);
    const step = this.#step;
    const ground = { route: root.route, ipv6: root.ipv6, procFd: () => root.procFd() };
    return { at, ipv6: root.ipv6, ...buildSlot(step === undefined ? ground : { ...ground, step }, at) };
  }

  #fits({ at, ipv6 }: Built): boolean {
    try {
      const root = this.#root;
      root.ensure();
      return sameIpv6(ipv6, root.ipv6) && damagesOutside(root.route, at).length === 0;
    } catch (error) {
      if (!(error instanceof NativeError)) throw error;
      return false;
    }
  }

  /** Closes one that was taken, with its lock. */
  discard({ lockFd, built }: Prepared): void {
    closeAll([built.netfilter, built.ns, lockFd]);
  }

  #touch(): void {
    this.#lastMs = this.#clock.monotonicMs();
    this.#schedule(LIMITS.networkIdleMs);
  }

  /** Looks after what is kept in so long at the latest. */
  #schedule(delayMs: number): void {
    const dueMs = this.#clock.monotonicMs() + delayMs;
    if (this.#planned !== null && this.#planned.dueMs <= dueMs) return;
    this.#planned?.cancel();
    this.#planned = { dueMs, cancel: this.#clock.after(delayMs, () => this.#tend(), { background: true }) };
  }

  /** One piece of work, when nobody has asked for a network for a moment. */
  #tend(): void {
    this.#planned = null;
    const idleMs = this.#clock.monotonicMs() - this.#lastMs;
    if (idleMs < LIMITS.networkIdleMs) {
      this.#schedule(LIMITS.networkIdleMs - idleMs);
      return;
    }
    if (this.#lent === 0 && idleMs >= LIMITS.networkUnusedMs) {
      this.release();
      return;
    }
    if (this.#cleanOne() || this.#fillOne()) this.#schedule(1);
    else this.#schedule(this.#lent === 0 ? LIMITS.networkUnusedMs - idleMs : this.#look());
  }

  /** A port that stays open is one that nobody listens at, and is closed when the slot's next sandbox has some of its own. */
  #closePorts({ at }: Built): void {
    try {
      this.#root.closePorts(at.rootDevice);
    } catch (error) {
      if (!(error instanceof NativeError)) throw error;
      this.#log.warn("ports of a sandbox that is gone could not be closed", { says: explained(error) });
    }
  }

  /** Rules of this host that another program threw away are put back. */
  #look(): number {
    try {
      this.#root.ensure();
    } catch (error) {
      if (!(error instanceof NativeError)) throw error;
      this.#log.warn("this host's share of the network cannot be seen to", { says: explained(error) });
    }
    return LIMITS.networkLookMs;
  }

  #cleanOne(): boolean {
    const at = this.#kept.findIndex(({ clean }) => !clean);
    const [dirty] = at < 0 ? [] : this.#kept.splice(at, 1);
    if (dirty === undefined) return false;
    const { built } = dirty;
    const damages = this.#undo(built);
    if (damages.length === 0) {
      this.#kept.push({ ...dirty, clean: true });
    } else {
      this.#log.debug("a network is not used again", { slot: dirty.slot, damages });
      this.discard(dirty);
    }
    return true;
  }

  #undo(built: Built): readonly string[] {
    try {
      reset(built);
      return verify(this.#root.route, built);
    } catch (error) {
      if (!(error instanceof NativeError)) throw error;
      return [error.message];
    }
  }

  #fillOne(): boolean {
    const now = this.#clock.monotonicMs();
    const ready = this.#kept.filter(({ clean, readyAtMs }) => clean && readyAtMs <= now).length;
    if (this.#lent === 0 || ready >= this.#reserve || this.#degraded !== null) return false;
    const lock = this.#lockFree();
    if (lock === null) return false;
    const idleSinceMs = this.#lastMs;
    const built = this.build(lock.slot);
    this.#lastMs = idleSinceMs; // nobody asked for this one
    if (built === null) closeFd(lock.fd);
    else this.#kept.push({ slot: lock.slot, lockFd: lock.fd, built, clean: true, readyAtMs: now });
    return built !== null;
  }
}

/** What a failed step says about this host, with what to do. */
function explain(error: NativeError): { readonly says: string; readonly remedy: string } {
  const remedy = (): string => {
    if (hasCode(error, "EPERM", "EACCES")) {
      return "grant CAP_NET_ADMIN and CAP_SYS_ADMIN; in a container: --privileged";
    }
    if (error.call === "netns_make") {
      if (hasCode(error, "ENOSPC", "EUSERS")) return "raise user.max_net_namespaces";
      return "modprobe tun; in a container: --device /dev/net/tun";
    }
    if (error.call === "socket") return "modprobe nf_tables, or use a kernel with CONFIG_NF_TABLES";
    if (hasCode(error, "EEXIST", "EBUSY")) return "remove what another program has made under this name";
    if (error.message.includes("link wrn")) return "modprobe veth";
    return "modprobe nf_tables nf_conntrack nf_nat nft_ct nft_masq nft_limit nft_reject_inet; Linux 5.9 or newer";
  };
  return { says: error.message, remedy: remedy() };
}

function explained(error: NativeError): string {
  const { says, remedy } = explain(error);
  return `${says}: ${remedy}`;
}
