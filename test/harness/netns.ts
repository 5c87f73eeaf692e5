/**
 * A small network of anonymous namespaces, made of real interfaces, for tests of rules: a guest, its slot, the host that
 * lends it, and a peer that has every address that is not theirs. Nothing of it is in the machine's own namespace, and all of
 * it ends with the processes that hold it.
 */
import { closeAll } from "../../ffi/files.ts";
import { enterNamespace, namespaceOf } from "../../ffi/net/netns.ts";
import { Netlink } from "../../src/host/net/message.ts";
import { type SlotAddresses, slotAddresses } from "../../src/host/net/plan.ts";
import type { Actions } from "./netns-agent.ts";
import { until } from "./until.ts";

/** For how long nothing comes of what is silent. */
export const SILENCE_MS = 300;
/** For how long an answer is waited for that has to come: on a busy machine it takes its time. */
export const ANSWER_MS = 10_000;

type Returned<A extends keyof Actions> = Awaited<ReturnType<Actions[A]>>;

/** A process in a namespace of its own. */
export class Agent implements AsyncDisposable {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #next = 1;

  private constructor(child: Bun.Subprocess<"pipe", "pipe", "inherit">) {
    this.#child = child;
  }

  static async start(): Promise<Agent> {
    const script = `${import.meta.dir}/netns-agent.ts`;
    const child = Bun.spawn(["unshare", "--net", process.execPath, script], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    const agent = new Agent(child);
    const ready = Promise.withResolvers<unknown>();
    agent.#waiting.set(0, ready);
    void agent.#read();
    await ready.promise;
    await agent.do("ip", ["link set lo up"]);
    return agent;
  }

  get pid(): number {
    return this.#child.pid;
  }

  async do<A extends keyof Actions>(action: A, ...args: Parameters<Actions[A]>): Promise<Returned<A>> {
    const id = this.#next++;
    const answered = Promise.withResolvers<unknown>();
    this.#waiting.set(id, answered);
    this.#child.stdin.write(`${JSON.stringify({ id, action, args })}\n`);
    this.#child.stdin.flush();
    return (await answered.promise) as Returned<A>;
  }

  /** Sockets of its namespace; the caller closes both. */
  sockets(): { readonly route: number; readonly netfilter: number } {
    const ns = namespaceOf(this.pid);
    try {
      return enterNamespace(ns, null);
    } finally {
      closeAll([ns]);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    await this.#child.exited;
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    let text = "";
    for await (const bytes of this.#child.stdout) {
      text += decoder.decode(bytes, { stream: true });
      const lines = text.split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) this.#settle(line);
    }
    for (const waiting of this.#waiting.values()) waiting.reject(new Error("the agent has ended"));
  }

  #settle(line: string): void {
    const { id, result, error } = JSON.parse(line) as { id: number; result?: unknown; error?: string };
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(result);
    else waiting?.reject(new Error(error));
  }
}

/** Addresses that the peer has: some that are public, and some that are forbidden. */
export const PEER = {
  public4: ["1.2.3.4", "1.2.3.5", "5.6.7.8", "9.9.9.9"],
  public6: ["2600::4", "2600::5", "2a00:1::8", "2620:fe::9"],
  private4: ["10.20.30.40", "169.254.169.254", "192.168.7.7", "100.64.1.1"],
  private6: ["fd00:ec2::254", "2001:db8::7", "64:ff9b::102:304"],
} as const;

const SLOT = 3;
const [UP_MAC, PEER_MAC] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];

export interface Lab extends AsyncDisposable {
  readonly guest: Agent;
  readonly slot: Agent;
  readonly host: Agent;
  readonly peer: Agent;
  readonly at: SlotAddresses;
  /** nfnetlink of the slot and of the host. */
  readonly nl: Netlink;
  readonly hostNl: Netlink;
}

const SWITCHES = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];
/** The kernel's own limit of errors that it tells, one in a second, hides what the rules do. */
const ERROR_LIMITS = ["/proc/sys/net/ipv4/icmp_ratelimit", "/proc/sys/net/ipv6/icmp/ratelimit"];

async function wire({ guest, slot, host, peer, at }: Lab): Promise<void> {
  const [v4, v6] = [30, 64];
  for (const router of [slot, host]) for (const path of SWITCHES) await router.do("write", path, "1");
  for (const path of ERROR_LIMITS) await slot.do("write", path, "0");
  await slot.do("ip", [
    `link add ${at.tap} address ${at.tapMac} type veth peer name eth0 address ${at.guestMac} netns ${guest.pid}`,
    `link add ${at.uplink} address ${at.slotMac} type veth peer name ${at.rootDevice} address ${at.hostMac} netns ${host.pid}`,
    ...[at.tap, at.uplink].map((device) => `link set ${device} addrgenmode none up`),
    `addr add ${at.tapAddress}/${v4} dev ${at.tap}`,
    `addr add ${at.tapAddress6}/${v6} dev ${at.tap} nodad`,
    `addr add ${at.slotAddress}/${v4} dev ${at.uplink}`,
    `addr add ${at.slotAddress6}/${v6} dev ${at.uplink} nodad`,
    ...[at.guestAddress, at.guestAddress6].map((a) => `neigh add ${a} lladdr ${at.guestMac} dev ${at.tap}`),
    ...[at.hostAddress, at.hostAddress6].map((a) => `neigh add ${a} lladdr ${at.hostMac} dev ${at.uplink}`),
  ]);
  await host.do("ip", [
    `link add up0 address ${UP_MAC} type veth peer name eth0 address ${PEER_MAC} netns ${peer.pid}`,
    `link set ${at.rootDevice} addrgenmode none up`,
    "link set up0 addrgenmode none up",
    `addr add ${at.hostAddress}/${v4} dev ${at.rootDevice}`,
    `addr add ${at.hostAddress6}/${v6} dev ${at.rootDevice} nodad`,
    "addr add 11.0.0.1/24 dev up0",
    "addr add 2a00:ffff::1/64 dev up0 nodad",
    ...[at.slotAddress, at.slotAddress6].map((a) => `neigh add ${a} lladdr ${at.slotMac} dev ${at.rootDevice}`),
    ...["11.0.0.2", "2a00:ffff::2"].map((a) => `neigh add ${a} lladdr ${PEER_MAC} dev up0`),
    "route add default via 11.0.0.2",
    `route add 10.99.0.0/30 via ${at.slotAddress}`,
  ]);
  await slot.do("ip", [`route add default via ${at.hostAddress}`, `route add ::/0 via ${at.hostAddress6}`]);
  const peers4 = [...PEER.public4, ...PEER.private4];
  const peers6 = [...PEER.public6, ...PEER.private6];
  await peer.do("ip", [
    "link set eth0 addrgenmode none up",
    "addr add 11.0.0.2/24 dev eth0",
    "addr add 2a00:ffff::2/64 dev eth0 nodad",
    ...["11.0.0.1", "2a00:ffff::1"].map((a) => `neigh add ${a} lladdr ${UP_MAC} dev eth0`),
    "route add default via 11.0.0.1",
    "route add ::/0 via 2a00:ffff::1",
    ...peers4.map((a) => `addr add ${a}/32 dev lo`),
    ...peers6.map((a) => `addr add ${a}/128 dev lo nodad`),
  ]);
  await host.do("ip", ["route add ::/0 via 2a00:ffff::2", `route add fd57:5752::/64 via ${at.slotAddress6}`]);
  await guest.do("ip", [
    "link set eth0 addrgenmode none up",
    `addr add ${at.guestAddress}/${v4} dev eth0`,
    `addr add ${at.guestAddress6}/${v6} dev eth0 nodad`,
    ...[at.tapAddress, at.tapAddress6].map((a) => `neigh add ${a} lladdr ${at.tapMac} dev eth0`),
    `route add default via ${at.tapAddress}`,
    `route add ::/0 via ${at.tapAddress6}`,
  ]);
}

/** Wired, with no rules anywhere: everything reaches everything. */
export async function lab(): Promise<Lab> {
  const all = await Promise.all([Agent.start(), Agent.start(), Agent.start(), Agent.start()]);
  const [guest, slot, host, peer] = all;
  const [own, hosts] = [slot.sockets(), host.sockets()];
  const made: Lab = {
    guest,
    slot,
    host,
    peer,
    at: slotAddresses(SLOT),
    nl: new Netlink(own.netfilter),
    hostNl: new Netlink(hosts.netfilter),
    [Symbol.asyncDispose]: async () => {
      closeAll([own.route, own.netfilter, hosts.route, hosts.netfilter]);
      await Promise.all(all.map((agent) => agent[Symbol.asyncDispose]()));
    },
  };
  await wire(made);
  // A new link may take the kernel a second until it carries.
  for (const to of [PEER.public4[0], PEER.public6[0]]) {
    await until(`${to} is reached`, async () => (await guest.do("ping", to, 100, undefined)) === "ok");
  }
  return made;
}
