/**
 * A slot's table: its chains, sets and counters. `fixed.ts` has the rules that no policy changes, `rules.ts` the others.
 *
 * A packet's way: `guard` (is it the guest's own?) – the kernel finds its connection – `judge` sees the destination that the
 * guest asked for, before any redirection, and either lets it pass, which marks the connection with the generation of
 * the rules, or refuses it – `reroute` – `forward` counts. Replies are judged by what their connection was sent to, so a
 * connection that is open when the rules change is judged again at its next packet, whichever way that goes.
 */
import { LIMITS } from "../../../limits.ts";
import { Attributes } from "../answer.ts";
import { type Netlink, NLM_F_DUMP } from "../message.ts";
import type { SlotAddresses } from "../plan.ts";
import { Batch, GROUP, type Seal, sealOf, tableMessage } from "./batch.ts";
import { addFixed } from "./fixed.ts";
import {
  COUNTERS,
  CROWD,
  FAMILIES,
  FAMILY,
  FIXED_CHAINS,
  HOOK,
  type Kind,
  MSG,
  POLICY_CHAINS,
  PRIORITY,
  SET_FLAG,
  TABLE,
} from "./names.ts";

/** How long a destination that was tried is remembered: one row a minute. */
export const TRIED_MS = 60_000;
/** Of each family and verdict. */
const TRIED_SIZE = 256;
/** Addresses in one change, at most. */
export const ADMITTED_AT_ONCE = 128;
/** Of each address with ports on average: most have one, and no range has more than 105. The kernel makes room for all at once. */
const PORT_BLOCKS = 4;

function addSets(batch: Batch): void {
  const ages = SET_FLAG.timeout;
  const size = LIMITS.egressAddresses + ADMITTED_AT_ONCE; // what is to be forgotten passes through, too
  for (const f of FAMILIES) {
    batch.set(f.admitted, { key: [f.kind], flags: ages, size });
    batch.set(f.proxied, { key: [f.kind], flags: ages, size });
    batch.set(f.admittedPorts, { key: [f.kind, "mark"], flags: ages, size: PORT_BLOCKS * size });
    const key: Kind[] = [f.kind, "protocol", "port"];
    const tried = { key, flags: ages | SET_FLAG.dynamic, size: TRIED_SIZE, timeoutMs: TRIED_MS };
    batch.set(f.tried.allowed, tried);
    batch.set(f.tried.refused, tried);
  }
  batch.set("grace", { key: ["mark"], flags: ages, size: 4 });
}

const BASE_CHAINS = {
  guard: { type: "filter", hook: HOOK.prerouting, priority: PRIORITY.raw, policy: "drop" },
  judge: { type: "filter", hook: HOOK.prerouting, priority: PRIORITY.mangle, policy: "drop" },
  reroute: { type: "nat", hook: HOOK.prerouting, priority: PRIORITY.dstnat, policy: "accept" },
  input: { type: "filter", hook: HOOK.input, priority: PRIORITY.filter, policy: "drop" },
  forward: { type: "filter", hook: HOOK.forward, priority: PRIORITY.filter, policy: "drop" },
  postrouting: { type: "nat", hook: HOOK.postrouting, priority: PRIORITY.srcnat, policy: "accept" },
} as const;

const SLOT_FAMILIES = [FAMILY.inet, FAMILY.arp];
const ARP_CHAIN = { type: "filter", hook: HOOK.arpInput, priority: PRIORITY.filter, policy: "accept" } as const;

/**
 * A new table in place of any that is there, its counters at zero, through which nothing passes until `installRules`.
 * @throws {NativeError}
 */
export function resetTable(nl: Netlink, at: SlotAddresses): void {
  const batch = new Batch(nl);
  for (const family of SLOT_FAMILIES) {
    batch.inFamily(family, () => {
      batch.table();
      batch.deleteTable();
      batch.table();
    });
  }
  batch.inFamily(FAMILY.arp, () => batch.chain("neighbours", ARP_CHAIN));
  for (const name of [...FIXED_CHAINS, CROWD, ...POLICY_CHAINS]) {
    batch.chain(name, name in BASE_CHAINS ? BASE_CHAINS[name as keyof typeof BASE_CHAINS] : undefined);
  }
  for (const name of COUNTERS) batch.counter(name);
  addSets(batch);
  addFixed(batch, at);
  batch.commit();
}

const DORMANT = 1;

/** Seals of a family's rules, null where one has none; null when that table is switched off. */
function seals(nl: Netlink, family: number): (Seal | null)[] | null {
  tableMessage(nl, "list tables", MSG.getTable, NLM_F_DUMP, family).end();
  const tables = nl.dump().map(({ body }) => new Attributes(body, 4));
  const own = tables.find((of) => of.text(1) === TABLE);
  if (own === undefined || ((own.be32(2) ?? 0) & DORMANT) !== 0) return null;
  tableMessage(nl, "list rules", MSG.getRule, NLM_F_DUMP, family).attrText(1, TABLE).end();
  return nl
    .dump()
    .map(({ body }) => new Attributes(body, 4))
    .filter((of) => of.text(1) === TABLE)
    .map((of) => sealOf(of.bytes(7)));
}

/** False when a table is gone or switched off, or has rules more, less or other than were written. @throws {NativeError} */
function isWhole(nl: Netlink, families: readonly number[], groups: readonly number[]): boolean {
  const seen = new Map<number, { readonly total: number; readonly indexes: Set<number> }>();
  for (const found of families.map((family) => seals(nl, family))) {
    if (found === null) return false;
    for (const seal of found) {
      if (seal === null) return false;
      const group = seen.get(seal.group) ?? { total: seal.total, indexes: new Set() };
      if (group.total !== seal.total || group.indexes.has(seal.index)) return false;
      group.indexes.add(seal.index);
      seen.set(seal.group, group);
    }
  }
  return seen.size === groups.length && groups.every((g) => seen.get(g)?.indexes.size === seen.get(g)?.total);
}

/** Whether nobody else has changed the slot's rules since `resetTable` and `installRules`; members of sets are not looked at. */
export function tableIsWhole(nl: Netlink): boolean {
  return isWhole(nl, SLOT_FAMILIES, [GROUP.fixed, GROUP.policy, GROUP.crowd]);
}

/** The same of the root namespace's table, which has one group. */
export function fixedIsWhole(nl: Netlink): boolean {
  return isWhole(nl, [FAMILY.inet], [GROUP.fixed]);
}
