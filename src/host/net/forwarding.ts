/**
 * Forwarding of this host's own devices. A host that forwards nothing stays one that forwards nothing but its sandboxes'
 * packets: it is switched on for devices with a default route alone, and the table of rules then refuses whatever comes in
 * there for anybody but a slot. That table is also where every process of the host finds which devices those are.
 */
import { existsSync, readFileSync } from "node:fs";
import { hasCode } from "../../../ffi/native.ts";
import { Attributes } from "./answer.ts";
import { type Netlink, NLM_F_DUMP } from "./message.ts";
import { tableMessage } from "./nft/batch.ts";
import { deviceName } from "./nft/expressions.ts";
import { MSG, TABLE } from "./nft/names.ts";
import { type Ipv6, ROOT_DEVICE } from "./plan.ts";
import { type LinkFact, readLink, readRoutes } from "./read.ts";
import { setForwarding } from "./route.ts";

const SYS = "/proc/sys/net";

function isOn(path: string): boolean {
  return existsSync(`${SYS}/${path}`) && readFileSync(`${SYS}/${path}`, "utf8").trim() === "1";
}

/**
 * IPv6 forwarding is left as it is: a host that begins to forward no longer listens to router advertisements, and may lose
 * its own way out.
 */
export function readIpv6(): Ipv6 {
  const inside = existsSync(`${SYS}/ipv6/conf/all/forwarding`);
  const links = inside && !isOn("ipv6/conf/all/disable_ipv6") && !isOn("ipv6/conf/default/disable_ipv6");
  return { inside, links, forwards: links && isOn("ipv6/conf/all/forwarding") };
}

/** True when this host passes IPv4 packets on between all of its links, whatever we do. */
export function forwardsAll(): boolean {
  return isOn("ipv4/ip_forward");
}

/** Links that a default route goes over. */
export function uplinks(route: Netlink): LinkFact[] {
  const indexes = readRoutes(route, true)
    .filter(({ bits }) => bits === 0)
    .flatMap((found) => found.indexes);
  const found: LinkFact[] = [];
  for (const index of new Set(indexes)) {
    try {
      found.push(readLink(route, index));
    } catch (error) {
      if (!hasCode(error, "ENODEV")) throw error; // gone meanwhile
    }
  }
  return found.filter(({ name }) => !ROOT_DEVICE.test(name) && name !== "lo");
}

/** Which of these devices the table's rules name as forwarding for slots alone. */
export function namedInTable(netfilter: Netlink, names: readonly string[]): string[] {
  if (names.length === 0) return [];
  tableMessage(netfilter, "list rules", MSG.getRule, NLM_F_DUMP).attrText(1, TABLE).end();
  const bodies = netfilter
    .dump()
    .filter(({ body }) => {
      const of = new Attributes(body, 4);
      return of.text(1) === TABLE && of.text(2) === "forward";
    })
    .map(({ body }) => Buffer.from(body));
  // Compared as the kernel does, to the last of its bytes: no other rule of the chain holds a whole device's name.
  return names.filter((name) => bodies.some((body) => body.includes(deviceName(name))));
}

/**
 * Devices that forward for slots alone, or shall: those with a default route on a host that forwards nothing itself. One that
 * forwards already, and not for us, is somebody's router's.
 */
export function ownForwarding(
  route: Netlink,
  netfilter: Netlink,
  before: readonly string[],
): { readonly wanted: readonly string[]; readonly named: readonly string[] } {
  if (forwardsAll()) return { wanted: [], named: namedInTable(netfilter, before) };
  const links = uplinks(route);
  const named = namedInTable(
    netfilter,
    links.map(({ name }) => name),
  );
  const wanted = links
    .filter(({ forwards, name }) => !forwards || named.includes(name) || before.includes(name))
    .map(({ name }) => name);
  return { wanted, named };
}

export function forward(route: Netlink, names: readonly string[]): void {
  for (const name of names) setForwarding(route, name, true);
  route.flush();
}
