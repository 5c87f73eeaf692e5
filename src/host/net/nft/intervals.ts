/** Sums and differences of address ranges, and ranges of ports as blocks that a hash can look up. Pure. */
import type { AddressRange, PortRange } from "../../../base/address.ts";

/** The same addresses as sorted ranges that neither overlap nor touch, of one family. */
export function merged(ranges: readonly AddressRange[], family: 4 | 6): AddressRange[] {
  const own = ranges.filter((range) => range.family === family).sort((a, b) => (a.first < b.first ? -1 : 1));
  const out: { family: 4 | 6; first: bigint; last: bigint }[] = [];
  for (const { first, last } of own) {
    const before = out.at(-1);
    if (before === undefined || first > before.last + 1n) out.push({ family, first, last });
    else if (last > before.last) before.last = last;
  }
  return out;
}

/** What is in `from` and not in `without`, merged, of one family. */
export function difference(
  from: readonly AddressRange[],
  without: readonly AddressRange[],
  family: 4 | 6,
): AddressRange[] {
  const holes = merged(without, family);
  const out: AddressRange[] = [];
  for (const { first, last } of merged(from, family)) {
    let at = first;
    for (const hole of holes) {
      if (hole.last < at || hole.first > last) continue;
      if (hole.first > at) out.push({ family, first: at, last: hole.first - 1n });
      at = hole.last + 1n;
    }
    if (at <= last) out.push({ family, first: at, last });
  }
  return out;
}

/** Ports that agree above their lowest `bits` bits. */
export interface PortBlock {
  readonly bits: PortBits;
  readonly first: number;
}

/** A block has 1, 16, 256 or 4096 ports: four look-ups find any, and no range needs more than 105. */
export const PORT_BITS = [0, 4, 8, 12] as const;
export type PortBits = (typeof PORT_BITS)[number];

/** The fewest blocks that together are the range. */
export function portBlocks({ from, to }: PortRange): PortBlock[] {
  const out: PortBlock[] = [];
  for (let at = from; at <= to; ) {
    const bits = PORT_BITS.findLast((b) => at % 2 ** b === 0 && at + 2 ** b - 1 <= to) ?? 0;
    out.push({ bits, first: at });
    at += 2 ** bits;
  }
  return out;
}
