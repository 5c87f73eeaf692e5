/**
 * The table of this process's own namespace, shared by all processes of this host that lend out slots: keeps slots from each
 * other and from this host's services, lets nothing begin towards them, and gives what leaves them this host's address.
 * It does not know which ranges a policy exempts, so forbidden ranges are the business of the slots' own tables alone. What
 * it accepts, other tables of the host may still refuse.
 */
import { addressBytes, parseRange } from "../../../base/address.ts";
import { Attributes } from "../answer.ts";
import { type Netlink, NLM_F_DUMP } from "../message.ts";
import { LINKS, LINKS6 } from "../plan.ts";
import { Batch, type Element, tableMessage } from "./batch.ts";
import * as x from "./expressions.ts";
import { FAMILIES, type Family, HOOK, MSG, PRIORITY, PROTOCOL, TABLE } from "./names.ts";
import { fixedIsWhole } from "./table.ts";

const SLOTS = "wrn*";
/** Device and port, of all slots: DNS and proxy. */
const HOST_PORTS = "host_ports";
const HOST_PORTS_SIZE = 65_536;
const CHAINS = {
  input: { type: "filter", hook: HOOK.input, priority: PRIORITY.filter, policy: "accept" },
  forward: { type: "filter", hook: HOOK.forward, priority: PRIORITY.filter, policy: "accept" },
  postrouting: { type: "nat", hook: HOOK.postrouting, priority: PRIORITY.srcnat, policy: "accept" },
} as const;

/** From one of the links' own addresses. */
function ours(f: Family): x.Expression[] {
  const range = parseRange(f.family === 4 ? LINKS : LINKS6);
  if (range === null) throw new TypeError("no range");
  const [first, last] = [range.first, range.last].map((value) => addressBytes({ family: f.family, value }));
  return [...x.ofFamily(f), ...x.sourceBetween(f, first as Uint8Array, last as Uint8Array)];
}

function addInput(batch: Batch): void {
  const key = [x.loadDevice(), x.payload("transport", 2, 2, x.R + 4), x.lookup(HOST_PORTS)];
  for (const number of [PROTOCOL.tcp, PROTOCOL.udp]) {
    // Only where the device's own address is asked for: another of the host's has other services at the same port.
    batch.rule("input", x.from(SLOTS), x.protocol(number), x.toOwnAddress(), key, x.ACCEPT);
  }
  batch.rule("input", x.from(SLOTS), x.icmp6Types(FAMILIES[1], 135, 136), x.ACCEPT);
  batch.rule("input", x.from(SLOTS), x.DROP);
}

function addForward(batch: Batch, ownForwarding: readonly string[]): void {
  const open = x.state(x.STATE.established | x.STATE.related);
  batch.rule("forward", x.from(SLOTS), x.towards(SLOTS), x.DROP);
  for (const f of FAMILIES) batch.rule("forward", x.from(SLOTS), ours(f), x.ACCEPT);
  batch.rule("forward", x.from(SLOTS), x.DROP);
  batch.rule("forward", x.towards(SLOTS), open, x.ACCEPT);
  batch.rule("forward", x.towards(SLOTS), x.DROP);
  for (const device of ownForwarding) batch.rule("forward", x.from(device), x.DROP);
}

/**
 * Makes the table, or makes its rules anew in one step; ports that are open stay open.
 * @param ownForwarding devices on which this host forwards only for the slots' sake: nothing of theirs goes anywhere else
 * @throws {NativeError}
 */
export function installRootTable(nl: Netlink, { ownForwarding }: { readonly ownForwarding: readonly string[] }): void {
  const batch = new Batch(nl);
  batch.table();
  for (const [name, base] of Object.entries(CHAINS)) {
    batch.chain(name, base);
    batch.clear(name);
  }
  batch.set(HOST_PORTS, { key: ["device", "port"], flags: 0, size: HOST_PORTS_SIZE });
  addInput(batch);
  addForward(batch, ownForwarding);
  for (const f of FAMILIES) batch.rule("postrouting", x.notTowards(SLOTS), ours(f), x.MASQUERADE);
  batch.commit();
}

/** Whether nobody else has changed the rules since `installRootTable`. @throws {NativeError} */
export function rootTableIsWhole(nl: Netlink): boolean {
  return fixedIsWhole(nl);
}

function member(device: string, port: number): Element {
  return { key: Uint8Array.of(...x.deviceName(device), ...x.be16(port), 0, 0) };
}

/** Ports that are open to a device. */
function portsOf(nl: Netlink, device: string): number[] {
  tableMessage(nl, "read services", MSG.getElements, NLM_F_DUMP).attrText(1, TABLE).attrText(2, HOST_PORTS).end();
  const name = Buffer.from(x.deviceName(device));
  const found: number[] = [];
  for (const { body } of nl.dump()) {
    for (const { value } of new Attributes(body, 4).list(3)) {
      const key = new Attributes(value).nested(1).bytes(1);
      if (key?.length === 20 && name.equals(key.subarray(0, 16))) found.push(((key[16] ?? 0) << 8) | (key[17] ?? 0));
    }
  }
  return found;
}

/**
 * Lets a slot reach these ports, TCP and UDP, of its link's address on this host, and no others any more.
 * @throws {NativeError} `ENOENT` – there is no table
 */
export function openHostPorts(nl: Netlink, rootDevice: string, ports: readonly number[]): void {
  const before = portsOf(nl, rootDevice);
  const batch = new Batch(nl);
  batch.forget(
    HOST_PORTS,
    before.filter((port) => !ports.includes(port)).map((port) => member(rootDevice, port)),
  );
  batch.add(
    HOST_PORTS,
    [...new Set(ports)].map((port) => member(rootDevice, port)),
  );
  batch.commit();
}

/** Lets a slot reach no port any more. @throws {NativeError} `ENOENT` – there is no table */
export function closeHostPorts(nl: Netlink, rootDevice: string): void {
  openHostPorts(nl, rootDevice, []);
}
