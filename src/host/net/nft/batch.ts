/**
 * One change of the rules: messages between a begin and an end, of which the kernel does all at one instant or none.
 * The rules of a change are collected first, so that each can carry how many there are: what anybody adds, removes or
 * replaces later shows.
 */
import { type AddressRange, addressBytes } from "../../../base/address.ts";
import { type Netlink, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE } from "../message.ts";
import type { Expression } from "./expressions.ts";
import {
  COUNTER_OBJECT,
  FAMILY,
  type Family,
  KIND,
  type Kind,
  kindBytes,
  MSG,
  SET_FLAG,
  SUBSYSTEM,
  TABLE,
} from "./names.ts";

const [BATCH_BEGIN, BATCH_END] = [16, 17];
const INTERVAL_END = 1;
/** Of each part in the number of a joined kind. */
const KIND_BITS = 6;
/** Bytes of keys and their frames in one message: an attribute has to stay below 64 KiB. */
const ELEMENTS_BYTES = 32 * 1024;

/** A member of a set with or without a time of its own. */
export interface Element {
  readonly key: Uint8Array;
  readonly timeoutMs?: number;
}

export interface SetShape {
  readonly key: readonly Kind[];
  readonly flags: number;
  readonly size: number;
  readonly timeoutMs?: number;
}

export interface BaseChain {
  readonly type: "filter" | "nat";
  readonly hook: number;
  readonly priority: number;
  readonly policy: "accept" | "drop";
}

/** A message about the table, its header written. */
export function tableMessage(
  nl: Netlink,
  about: string,
  message: number,
  flags = 0,
  family: number = FAMILY.inet,
): Netlink {
  return nl
    .begin(`nftables: ${about}`, (SUBSYSTEM << 8) | message, flags)
    .u8(family)
    .u8(0)
    .be16(0);
}

/** Groups of rules, each written as a whole: what nothing changes, a policy, and the limit of open connections. */
export const GROUP = { fixed: 0, policy: 1, crowd: 2 } as const;

/** What a rule says of itself: which group it is of, its place in the group, how many that has, and a number of the group's own. */
export interface Seal {
  readonly group: number;
  readonly index: number;
  readonly total: number;
  readonly note: number;
}

/** In the form that `nft` keeps its own notes in, of a type that it does not know: type, length, value. */
const SEAL_HEAD = [0x57, 8] as const;
const SEAL_BYTES = 10;

function seal({ group, index, total, note }: Seal): Uint8Array {
  const bytes = new Uint8Array(SEAL_BYTES);
  bytes.set(SEAL_HEAD);
  for (const [i, value] of [group, index, total, note].entries())
    new DataView(bytes.buffer).setUint16(2 + 2 * i, value);
  return bytes;
}

/** Null for the rule of somebody else. */
export function sealOf(bytes: Uint8Array | null): Seal | null {
  if (bytes?.length !== SEAL_BYTES || bytes[0] !== SEAL_HEAD[0]) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset + SEAL_HEAD.length);
  const [group, index, total, note] = [0, 2, 4, 6].map((at) => view.getUint16(at)) as [number, number, number, number];
  return { group, index, total, note };
}

interface Rule {
  readonly family: number;
  readonly chain: string;
  readonly expressions: readonly Expression[];
}

export class Batch {
  readonly #nl: Netlink;
  readonly #groups = new Map<number, { readonly note: number; readonly rules: Rule[] }>();
  #group: number = GROUP.fixed;
  #family: number = FAMILY.inet;
  #anonymous = 0;

  /** Nothing else may write to `nl` until `commit`. */
  constructor(nl: Netlink) {
    this.#nl = nl;
    nl.drop();
    nl.begin("nftables: begin", BATCH_BEGIN).u8(0).u8(0).be16(SUBSYSTEM).end();
  }

  /** What `job` adds is about the table of this family; all else is of `inet`. */
  inFamily(family: number, job: () => void): void {
    const before = this.#family;
    this.#family = family;
    job();
    this.#family = before;
  }

  /** What rules are from now on. @param note up to 65535 */
  group(group: number, note = 0): void {
    this.#group = group;
    if (!this.#groups.has(group)) this.#groups.set(group, { note, rules: [] });
  }

  table(): void {
    tableMessage(this.#nl, "table", MSG.newTable, NLM_F_CREATE, this.#family).attrText(1, TABLE).attrBe32(2, 0).end();
  }

  deleteTable(): void {
    tableMessage(this.#nl, "delete table", MSG.delTable, 0, this.#family).attrText(1, TABLE).end();
  }

  chain(name: string, base?: BaseChain): void {
    const nl = tableMessage(this.#nl, `chain ${name}`, MSG.newChain, NLM_F_CREATE, this.#family);
    nl.attrText(1, TABLE).attrText(3, name);
    if (base !== undefined) {
      nl.nest(4, () => nl.attrBe32(1, base.hook).attrBe32(2, base.priority >>> 0));
      nl.attrBe32(5, base.policy === "accept" ? 1 : 0).attrText(7, base.type);
    }
    nl.end();
  }

  counter(name: string): void {
    const nl = tableMessage(this.#nl, `counter ${name}`, MSG.newObject, NLM_F_CREATE);
    nl.attrText(1, TABLE).attrText(2, name).attrBe32(3, COUNTER_OBJECT);
    nl.nest(4, () => undefined).end();
  }

  set(name: string, { key, flags, size, timeoutMs }: SetShape): void {
    const nl = this.#newSet(name, flags, key, 1);
    nl.nest(9, () => nl.attrBe32(1, size));
    if (timeoutMs !== undefined) nl.attrBe64(11, BigInt(timeoutMs));
    nl.end();
  }

  /** Adds members; one that is there stays as it is. */
  add(set: string, members: readonly Element[]): void {
    this.#elements(MSG.newElements, set, members);
  }

  /** Members that must be there: the whole change fails otherwise. */
  remove(set: string, members: readonly Element[]): void {
    this.#elements(MSG.delElements, set, members);
  }

  /** Makes members new, with their times, whether they were there or not. */
  renew(set: string, members: readonly Element[]): void {
    this.add(set, members);
    this.remove(set, members);
    this.add(set, members);
  }

  /** Makes members gone, whether they were there or not. */
  forget(set: string, members: readonly Element[]): void {
    this.add(set, members);
    this.remove(set, members);
  }

  empty(set: string): void {
    tableMessage(this.#nl, `empty ${set}`, MSG.delElements).attrText(1, TABLE).attrText(2, set).end();
  }

  /**
   * A set of ranges that belongs to the one rule of this change that looks it up, and goes with that rule.
   * @param ranges merged, not empty
   * @returns name and number for that look-up
   */
  ranges(f: Family, ranges: readonly AddressRange[]): readonly [string, number] {
    const name = "__set%d";
    this.#anonymous += 1;
    const id = this.#anonymous + 1;
    const nl = this.#newSet(name, SET_FLAG.anonymous | SET_FLAG.constant | SET_FLAG.interval, [f.kind], id).end();
    const top = (1n << BigInt(f.bytes * 8)) - 1n;
    tableMessage(nl, "ranges", MSG.newElements, NLM_F_CREATE).attrText(1, TABLE).attrText(2, name).attrBe32(4, id);
    nl.nest(3, () => {
      for (const { family, first, last } of ranges) {
        this.#element(addressBytes({ family, value: first }));
        if (last < top) this.#element(addressBytes({ family, value: last + 1n }), { end: true });
      }
    }).end();
    return [name, id];
  }

  /** Removes the rules of a chain as it was before this change. */
  clear(chain: string): void {
    tableMessage(this.#nl, `clear ${chain}`, MSG.delRule).attrText(1, TABLE).attrText(2, chain).end();
  }

  rule(chain: string, ...expressions: readonly (Expression | readonly Expression[])[]): void {
    this.group(this.#group);
    this.#groups.get(this.#group)?.rules.push({ family: this.#family, chain, expressions: expressions.flat() });
  }

  /**
   * Adds the rules and does all of it.
   * @throws {NativeError} naming what the kernel refused; nothing has changed then
   */
  commit(): void {
    const nl = this.#nl;
    for (const [group, { note, rules }] of this.#groups) {
      for (const [index, rule] of rules.entries()) this.#write(rule, { group, index, total: rules.length, note });
    }
    // Only what stands between begin and end is acknowledged: an empty one more, about what is there anyway.
    tableMessage(nl, "commit", MSG.newTable, NLM_F_ACK).attrText(1, TABLE).end();
    nl.begin("nftables: end", BATCH_END).u8(0).u8(0).be16(SUBSYSTEM).end();
    nl.flush();
  }

  #write({ family, chain, expressions }: Rule, own: Seal): void {
    const nl = this.#nl;
    tableMessage(nl, `rule ${own.index} in ${chain}`, MSG.newRule, NLM_F_CREATE | NLM_F_APPEND, family)
      .attrText(1, TABLE)
      .attrText(2, chain)
      .nest(4, () => {
        for (const write of expressions) write(nl);
      })
      .attrBytes(7, seal(own))
      .end();
  }

  #newSet(name: string, flags: number, key: readonly Kind[], id: number): Netlink {
    return tableMessage(this.#nl, `set ${name}`, MSG.newSet, NLM_F_CREATE)
      .attrText(1, TABLE)
      .attrText(2, name)
      .attrBe32(3, flags)
      .attrBe32(
        4,
        key.reduce((sum, kind) => (sum << KIND_BITS) | KIND[kind], 0),
      )
      .attrBe32(5, kindBytes(key))
      .attrBe32(10, id);
  }

  #elements(message: number, set: string, members: readonly Element[]): void {
    const flags = message === MSG.newElements ? NLM_F_CREATE : 0;
    const perMessage = Math.max(1, Math.floor(ELEMENTS_BYTES / (40 + (members[0]?.key.length ?? 0))));
    for (let at = 0; at < members.length; at += perMessage) {
      const nl = tableMessage(this.#nl, `members of ${set}`, message, flags).attrText(1, TABLE).attrText(2, set);
      nl.nest(3, () => {
        for (const { key, timeoutMs } of members.slice(at, at + perMessage)) {
          this.#element(key, timeoutMs === undefined || message === MSG.delElements ? {} : { timeoutMs });
        }
      }).end();
    }
  }

  #element(key: Uint8Array, { end = false, timeoutMs }: { end?: boolean; timeoutMs?: number } = {}): void {
    const nl = this.#nl;
    nl.nest(1, () => {
      if (end) nl.attrBe32(3, INTERVAL_END);
      nl.nest(1, () => nl.attrBytes(1, key));
      if (timeoutMs !== undefined) nl.attrBe64(4, BigInt(timeoutMs));
    });
  }
}
