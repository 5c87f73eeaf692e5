/**
 * A slot's table as far as no policy has a say: its chains, sets and counters, who may send at all, how a refusal looks,
 * and what is written down. `rules.ts` fills in the rest.
 *
 * A packet's way: `guard` (is it the guest's own?) – the kernel finds its connection – `judge` sees the destination that the
 * guest asked for, before any redirection, and either lets it pass, which marks the connection with the generation of
 * the rules, or refuses it – `redirect` – `forward` counts. Replies are judged by what their connection was sent to, so a
 * connection that is open when the rules change is judged again at its next packet, whichever way that goes.
 */
import { addressBytes, type IpAddress, parseAddress } from "../../../base/address.ts";
import { LIMITS } from "../../../limits.ts";
import { Attributes } from "../answer.ts";
import { type Netlink, NLM_F_DUMP } from "../message.ts";
import type { SlotAddresses } from "../plan.ts";
import { Batch, sealOf, tableMessage } from "./batch.ts";
import * as x from "./expressions.ts";
import {
  COUNTERS,
  FAMILIES,
  type Family,
  FIXED_CHAINS,
  HOOK,
  MSG,
  POLICY_CHAINS,
  PRIORITY,
  PROTOCOL,
  SET_FLAG,
  TABLE,
} from "./names.ts";

/** How long a destination that was tried is remembered: one row a minute. */
export const TRIED_MS = 60_000;
/** Of each family and verdict. */
const TRIED_SIZE = 1024;
/** A refusal is answered, until there are more than this: then it is silent. */
const ANSWERS_PER_SECOND = 100;
/** For so long after a change, connections that the new rules do not allow stand still before they are reset: `admit` may follow. */
export const GRACE_MS = 250;
export const GRACE_KEY = Uint8Array.of(1, 0, 0, 0);

/** Groups of rules, each written as a whole. */
export const GROUP = { fixed: 0, policy: 1 } as const;

/** @throws {TypeError} for what is no address: of this program's own plan */
export function ownAddress(text: string): IpAddress {
  const address = parseAddress(text);
  if (address === null) throw new TypeError(`no address: ${text}`);
  return address;
}

export function ownBytes(text: string): Uint8Array {
  return addressBytes(ownAddress(text));
}

function addSets(batch: Batch): void {
  const ages = SET_FLAG.timeout;
  for (const f of FAMILIES) {
    batch.set(f.admitted, { keyBytes: f.bytes, flags: ages, size: LIMITS.egressAddresses });
    batch.set(f.proxied, { keyBytes: f.bytes, flags: ages, size: LIMITS.egressAddresses });
    batch.set(f.admittedPorts, { keyBytes: f.bytes + 4, flags: ages, size: 8 * LIMITS.egressAddresses });
    const tried = { keyBytes: f.bytes + 8, flags: ages | SET_FLAG.dynamic, size: TRIED_SIZE, timeoutMs: TRIED_MS };
    batch.set(f.tried.allowed, tried);
    batch.set(f.tried.refused, tried);
  }
  batch.set("grace", { keyBytes: 4, flags: ages, size: 4 });
}

const BASE_CHAINS = {
  guard: { type: "filter", hook: HOOK.prerouting, priority: PRIORITY.raw, policy: "drop" },
  judge: { type: "filter", hook: HOOK.prerouting, priority: PRIORITY.mangle, policy: "drop" },
  redirect: { type: "nat", hook: HOOK.prerouting, priority: PRIORITY.dstnat, policy: "accept" },
  input: { type: "filter", hook: HOOK.input, priority: PRIORITY.filter, policy: "drop" },
  forward: { type: "filter", hook: HOOK.forward, priority: PRIORITY.filter, policy: "drop" },
  postrouting: { type: "nat", hook: HOOK.postrouting, priority: PRIORITY.srcnat, policy: "accept" },
} as const;

function mac(text: string): Uint8Array {
  return Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16));
}

/** Neighbour discovery and what a guest's kernel says of itself on a link: needs no answer, and is no attempt at anything. */
function linkChatter(batch: Batch, v6: Family): void {
  const MULTICAST_REPORT = 143;
  batch.rule("guard", x.icmp6Types(v6, 130, 137), x.DROP);
  batch.rule("guard", x.icmpType(v6, 0, MULTICAST_REPORT), x.DROP);
}

function addGuard(batch: Batch, at: SlotAddresses): void {
  const [v4, v6] = FAMILIES;
  batch.rule("guard", x.notFrom(at.tap), x.ACCEPT);
  batch.rule("guard", x.payload("link", 6, 6), x.differs(mac(at.guestMac)), x.count("refused"), x.DROP);
  for (const [f, address] of [
    [v4, at.guestAddress],
    [v6, at.guestAddress6],
  ] as const) {
    if (f === v6) linkChatter(batch, v6);
    const source = x.payload("network", f.source, f.bytes);
    batch.rule("guard", x.ofFamily(f), source, x.equals(ownBytes(address)), x.ACCEPT);
  }
  batch.rule("guard", x.count("refused"), x.DROP);
}

/** What was tried: destination, protocol and port of the guest's packet, in this order in three to six registers. */
function addNotes(batch: Batch, verdict: "allowed" | "refused"): void {
  const [plain, withPort] = [`note_${verdict}`, `note_${verdict}_port`];
  for (const number of [PROTOCOL.tcp, PROTOCOL.udp]) batch.rule(plain, x.protocol(number), x.goto(withPort));
  for (const chain of [plain, withPort]) {
    for (const f of FAMILIES) {
      const after = x.R + f.bytes / 4;
      batch.rule(
        chain,
        x.ofFamily(f),
        x.payload("network", f.destination, f.bytes),
        x.loadProtocol(after),
        chain === plain ? x.immediate(new Uint8Array(4), after + 1) : x.payload("transport", 2, 2, after + 1),
        x.remember(f.tried[verdict]),
        x.RETURN,
      );
    }
    batch.rule(chain, x.count("lost"));
  }
}

function addRefusal(batch: Batch, at: SlotAddresses): void {
  const rule = (...parts: readonly (x.Expression | readonly x.Expression[])[]): void => batch.rule("refuse", ...parts);
  rule(x.count("refused"));
  rule(x.notFrom(at.tap), x.DROP);
  rule(x.notMark(0), x.immediate(GRACE_KEY), x.lookup("grace"), x.DROP);
  rule(x.jump("note_refused"));
  rule(x.over("packets", ANSWERS_PER_SECOND, ANSWERS_PER_SECOND), x.DROP);
  rule(x.protocol(PROTOCOL.tcp), x.RESET);
  rule(x.PROHIBITED);
}

/** Neighbour solicitation and advertisement. */
const [SOLICIT, ADVERTISE] = [135, 136];

function addFixed(batch: Batch, at: SlotAddresses): void {
  const [, v6] = FAMILIES;
  addGuard(batch, at);
  batch.rule("judge", x.from(at.tap), x.goto("outbound"));
  batch.rule("judge", x.from(at.uplink), x.goto("inbound"));
  batch.rule("judge", x.from("lo"), x.ACCEPT);
  batch.rule("judge", x.DROP);
  addNotes(batch, "allowed");
  addNotes(batch, "refused");
  addRefusal(batch, at);
  batch.rule("forward", x.from(at.tap), x.towards(at.uplink), x.count("out"), x.ACCEPT);
  batch.rule("forward", x.from(at.uplink), x.towards(at.tap), x.count("in"), x.ACCEPT);
  batch.rule("forward", x.DROP);
  batch.rule("input", x.from("lo"), x.ACCEPT);
  batch.rule("input", x.from(at.uplink), x.icmp6Types(v6, SOLICIT, ADVERTISE), x.ACCEPT);
  batch.rule("input", x.DROP);
  batch.rule("postrouting", x.towards(at.uplink), x.MASQUERADE);
}

/**
 * A new table in place of any that is there, its counters at zero, through which nothing passes until `installRules`.
 * @throws {NativeError}
 */
export function resetTable(nl: Netlink, at: SlotAddresses): void {
  const batch = new Batch(nl);
  batch.table();
  batch.deleteTable();
  batch.table();
  for (const name of [...FIXED_CHAINS, ...POLICY_CHAINS]) {
    batch.chain(name, name in BASE_CHAINS ? BASE_CHAINS[name as keyof typeof BASE_CHAINS] : undefined);
  }
  for (const name of COUNTERS) batch.counter(name);
  addSets(batch);
  addFixed(batch, at);
  batch.commit(GROUP.fixed);
}

const DORMANT = 1;

/** False when the table is gone or switched off, or has rules more, less or other than were written. @throws {NativeError} */
function isWhole(nl: Netlink, groups: readonly number[]): boolean {
  tableMessage(nl, "list tables", MSG.getTable, NLM_F_DUMP).end();
  const tables = nl.dump().map(({ body }) => ({ family: body[0], of: new Attributes(body, 4) }));
  const own = tables.find(({ family, of }) => family === 1 && of.text(1) === TABLE);
  if (own === undefined || ((own.of.be32(2) ?? 0) & DORMANT) !== 0) return false;
  tableMessage(nl, "list rules", MSG.getRule, NLM_F_DUMP).attrText(1, TABLE).end();
  const seen = new Map<number, { readonly total: number; readonly indexes: Set<number> }>();
  for (const { body } of nl.dump()) {
    const of = new Attributes(body, 4);
    if (body[0] !== 1 || of.text(1) !== TABLE) continue;
    const seal = sealOf(of.bytes(7));
    if (seal === null) return false;
    const group = seen.get(seal.group) ?? { total: seal.total, indexes: new Set() };
    if (group.total !== seal.total || group.indexes.has(seal.index)) return false;
    group.indexes.add(seal.index);
    seen.set(seal.group, group);
  }
  return seen.size === groups.length && groups.every((g) => seen.get(g)?.indexes.size === seen.get(g)?.total);
}

/** Whether nobody else has changed the slot's rules since `resetTable` and `installRules`; members of sets are not looked at. */
export function tableIsWhole(nl: Netlink): boolean {
  return isWhole(nl, [GROUP.fixed, GROUP.policy]);
}

/** The same of the root namespace's table, which has one group. */
export function fixedIsWhole(nl: Netlink): boolean {
  return isWhole(nl, [GROUP.fixed]);
}
