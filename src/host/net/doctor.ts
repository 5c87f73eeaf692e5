/** Rows of doctor about networks: one is made and checked, and what of this host stands in the way of packets is looked for. */
import { existsSync, readFileSync } from "node:fs";
import { closeAll } from "../../../ffi/files.ts";
import { NativeError } from "../../../ffi/native.ts";
import { filterDumps, NETLINK_NETFILTER, NETLINK_ROUTE, openNetlink } from "../../../ffi/net/netlink.ts";
import type { Fact } from "../facts.ts";
import { COMMAND_ENV, runOk } from "../run.ts";
import { Attributes } from "./answer.ts";
import { forwardsAll, readIpv6, uplinks } from "./forwarding.ts";
import { Netlink, NLM_F_DUMP } from "./message.ts";
import type { Probed } from "./networks.ts";
import { tableMessage } from "./nft/batch.ts";
import { FAMILY, HOOK, MSG, TABLE } from "./nft/names.ts";

const GET_CHAIN = 4;
const ALL_FAMILIES = 0;
const DROP = 0;
const REMEDY =
  "accept packets from and to wrn*, such as iptables -I FORWARD -i wrn+ -j ACCEPT and -o wrn+ (Docker: in DOCKER-USER)";

function network(probed: Probed): Fact {
  if (probed.kind === "works") {
    return { name: "network", state: "ok", says: `a sandbox's, made in ${probed.tookMs.toFixed(1)} ms`, remedy: null };
  }
  const { says, remedy } = probed;
  return { name: "network", state: "degraded", says: `sandboxes have none: ${says}`, remedy };
}

/** Chains of others that drop whatever is forwarded and not known to them, and say nothing of slots. */
function droppingChains(netfilter: Netlink): string[] {
  tableMessage(netfilter, "list chains", GET_CHAIN, NLM_F_DUMP, ALL_FAMILIES).end();
  const chains = netfilter.dump().flatMap(({ body }) => {
    const of = new Attributes(body, 4);
    const forward = of.nested(4).be32(1) === HOOK.forward;
    const ip = body[0] === FAMILY.inet || body[0] === FAMILY.ipv4;
    const table = of.text(1) ?? "";
    const drops = ip && forward && of.be32(5) === DROP && table !== TABLE;
    return drops ? [{ table, name: of.text(3) ?? "" }] : [];
  });
  if (chains.length === 0) return [];
  tableMessage(netfilter, "list rules", MSG.getRule, NLM_F_DUMP, ALL_FAMILIES).end();
  const knowing = new Set(
    netfilter
      .dump()
      .filter(({ body }) => Buffer.from(body).includes("wrn"))
      .map(({ body }) => new Attributes(body, 4).text(1)),
  );
  return chains.filter(({ table }) => !knowing.has(table)).map(({ table, name }) => `${name} of table ${table}`);
}

/** The same of iptables' older kernel interface, which only its own command can read. */
async function droppingLegacy(): Promise<string[]> {
  const names = "/proc/self/net/ip_tables_names";
  const command = ["iptables-legacy", "iptables"].find((name) => Bun.which(name, { PATH: COMMAND_ENV["PATH"] ?? "" }));
  if (command === undefined || !existsSync(names) || !readFileSync(names, "utf8").includes("filter")) return [];
  const says = await runOk([command, "-S"], { deadlineMs: 5_000 }).catch(() => ""); // it cannot be read: nothing to say
  return says.includes("-P FORWARD DROP") && !says.includes("wrn") ? [`FORWARD of ${command}`] : [];
}

function seen<T>(read: (route: Netlink, netfilter: Netlink) => T): T | null {
  const fds: number[] = [];
  try {
    fds.push(openNetlink(NETLINK_ROUTE), openNetlink(NETLINK_NETFILTER));
    const [route, netfilter] = fds as [number, number];
    filterDumps(route);
    return read(new Netlink(route), new Netlink(netfilter));
  } catch (error) {
    if (!(error instanceof NativeError)) throw error;
    return null; // the row about networks says what is missing
  } finally {
    closeAll(fds);
  }
}

async function forwarding(): Promise<Fact> {
  const name = "forwarding";
  const ways = seen((route) => uplinks(route).map((link) => link.name)) ?? [];
  if (ways.length === 0) {
    const says = "this host has no default route: sandboxes reach nothing beyond it";
    return { name, state: "degraded", says, remedy: "give this host a default route" };
  }
  const dropping = [...(seen((_, netfilter) => droppingChains(netfilter)) ?? []), ...(await droppingLegacy())];
  if (dropping.length > 0) {
    const says = `${dropping.join(", ")} drops what sandboxes send`;
    return { name, state: "degraded", says, remedy: REMEDY };
  }
  const how = forwardsAll() ? "this host forwards anyway" : "for sandboxes alone";
  return { name, state: "ok", says: `by ${ways.join(", ")}; ${how}`, remedy: null };
}

function ipv6(): Fact {
  const { links, forwards } = readIpv6();
  if (forwards) return { name: "ipv6", state: "ok", says: "sandboxes reach IPv6 destinations", remedy: null };
  const remedy = links
    ? "sysctl -w net.ipv6.conf.all.forwarding=1; first accept_ra=2 for a device that is configured by advertisements"
    : "sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0";
  const says = links ? "this host does not forward it: sandboxes reach IPv4 only" : "this host has none";
  return { name: "ipv6", state: "degraded", says, remedy };
}

/** @param probed what became of making one */
export async function networkFacts(probed: Probed): Promise<Fact[]> {
  return [network(probed), await forwarding(), ipv6()];
}
