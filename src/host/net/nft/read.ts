/** What a slot's table has counted and written down. */
import { addressFrom } from "../../../base/address.ts";
import type { NetworkUsage, Tried } from "../../network.ts";
import { Attributes } from "../answer.ts";
import { type Netlink, NLM_F_DUMP } from "../message.ts";
import { tableMessage } from "./batch.ts";
import { COUNTER_OBJECT, type Counter, FAMILIES, type Family, MSG, PROTOCOL, TABLE } from "./names.ts";
import { TRIED_MS } from "./table.ts";

interface Counted {
  readonly bytes: number;
  readonly packets: number;
}

/** Empty when the table is gone. */
function counters(nl: Netlink): Map<string, Counted> {
  tableMessage(nl, "read counters", MSG.getObject, NLM_F_DUMP).attrText(1, TABLE).attrBe32(3, COUNTER_OBJECT).end();
  const found = new Map<string, Counted>();
  for (const { body } of nl.dump()) {
    const of = new Attributes(body, 4);
    if (of.text(1) !== TABLE || of.be32(3) !== COUNTER_OBJECT) continue;
    const data = of.nested(4);
    found.set(of.text(2) ?? "", { bytes: Number(data.be64(1) ?? 0n), packets: Number(data.be64(2) ?? 0n) });
  }
  return found;
}

/** Null when there is no table, or not all of it. @throws {NativeError} */
export function readUsage(nl: Netlink): NetworkUsage | null {
  const all = counters(nl);
  const of = (name: Counter): Counted | undefined => all.get(name);
  const [out, back, opened, refused] = [of("bytes_out"), of("bytes_in"), of("opened"), of("refused")];
  if (out === undefined || back === undefined || opened === undefined || refused === undefined) return null;
  return { bytesOut: out.bytes, bytesIn: back.bytes, connections: opened.packets, refused: refused.packets };
}

/** How far a table has been read: what has been handed out already. One for each table, made by `triedCursor`. */
export interface TriedCursor {
  /** Key of a row → when the kernel forgets it. */
  readonly seen: Map<string, number>;
  lost: number;
}

export function triedCursor(): TriedCursor {
  return { seen: new Map(), lost: 0 };
}

interface Remembered {
  readonly id: string;
  readonly forgottenMs: number;
  readonly row: Tried;
}

const PROTOCOLS: ReadonlyMap<number | undefined, Tried["protocol"]> = new Map([
  [PROTOCOL.tcp, "tcp"],
  [PROTOCOL.udp, "udp"],
  [PROTOCOL.icmp, "icmp"],
  [PROTOCOL.icmp6, "icmp"],
]);

function remembered(nl: Netlink, f: Family, verdict: Tried["verdict"], nowMs: number): Remembered[] {
  const set = f.tried[verdict];
  tableMessage(nl, `read ${set}`, MSG.getElements, NLM_F_DUMP).attrText(1, TABLE).attrText(2, set).end();
  const found: Remembered[] = [];
  for (const { body } of nl.dump()) {
    for (const { value } of new Attributes(body, 4).list(3)) {
      const element = new Attributes(value);
      const key = element.nested(1).bytes(1);
      const left = Number(element.be64(5) ?? 0n);
      if (key === null || key.length < f.bytes + 8) continue;
      const port = ((key[f.bytes + 4] ?? 0) << 8) | (key[f.bytes + 5] ?? 0);
      const address = addressFrom(key.subarray(0, f.bytes));
      const protocol = PROTOCOLS.get(key[f.bytes]) ?? "other";
      const row = { atMs: Math.round(nowMs - (TRIED_MS - left)), address, protocol, port, verdict };
      found.push({ id: `${set} ${Buffer.from(key).toString("hex")}`, forgottenMs: nowMs + left, row });
    }
  }
  return found;
}

/**
 * What was tried since the cursor's last reading, oldest first, and how many packets had no place to be written down. To be
 * read more often than once in a minute: the kernel forgets after that.
 * @param nowMs of the wall clock
 * @throws {NativeError} `ENOENT` – there is no table
 */
export function readTried(
  nl: Netlink,
  cursor: TriedCursor,
  nowMs: number,
): { readonly rows: readonly Tried[]; readonly lost: number } {
  const all = FAMILIES.flatMap((f) => [...remembered(nl, f, "allowed", nowMs), ...remembered(nl, f, "refused", nowMs)]);
  // One that was there before has the end that it had; a new one of the same destination ends a minute after that at least.
  const isNew = ({ id, forgottenMs }: Remembered): boolean =>
    forgottenMs > (cursor.seen.get(id) ?? Number.NEGATIVE_INFINITY) + TRIED_MS / 2;
  const rows = all.filter(isNew).map(({ row }) => row);
  cursor.seen.clear();
  for (const { id, forgottenMs } of all) cursor.seen.set(id, forgottenMs);
  const lost = counters(nl).get("lost")?.packets ?? 0;
  const more = Math.max(0, lost - cursor.lost);
  cursor.lost = lost;
  return { rows: rows.sort((a, b) => a.atMs - b.atMs), lost: more };
}
