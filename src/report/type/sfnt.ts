/** Font files as tables: WOFF 1 unpacked (W3C WOFF File Format 1.0), and a table of an OpenType font found (OpenType 1.9). */
import { inflateSync } from "node:zlib";
import { assert } from "../../base/assert.ts";

const WOFF = 0x774f4646;
const WOFF_HEADER = 44;
const WOFF_ENTRY = 20;
const COLLECTION = 0x74746366; // ttcf
const COLLECTION_HEADER = 12;
const SFNT_HEADER = 12;
const SFNT_ENTRY = 16;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** An OpenType file out of a WOFF file; any other comes back as it is, and one that is no font has no characters. */
export function sfntOf(file: Uint8Array): Uint8Array {
  const from = viewOf(file);
  if (file.length < WOFF_HEADER || from.getUint32(0) !== WOFF) return file;
  const count = from.getUint16(12);
  const head = SFNT_HEADER + count * SFNT_ENTRY;
  const tables = Array.from({ length: count }, (_, i) => {
    const at = WOFF_HEADER + i * WOFF_ENTRY;
    const [offset, packed, length] = [from.getUint32(at + 4), from.getUint32(at + 8), from.getUint32(at + 12)];
    const data = file.subarray(offset, offset + packed);
    return { tag: from.getUint32(at), sum: from.getUint32(at + 16), data: packed < length ? inflateSync(data) : data };
  });
  const size = tables.reduce((sum, { data }) => sum + ((data.length + 3) & ~3), head);
  const out = new Uint8Array(size);
  const to = viewOf(out);
  const largest = 2 ** Math.floor(Math.log2(count));
  to.setUint32(0, from.getUint32(4));
  to.setUint16(4, count);
  to.setUint16(6, largest * SFNT_ENTRY);
  to.setUint16(8, Math.log2(largest));
  to.setUint16(10, (count - largest) * SFNT_ENTRY);
  let offset = head;
  for (const [i, { tag, sum, data }] of tables.entries()) {
    [tag, sum, offset, data.length].forEach((word, j) => void to.setUint32(SFNT_HEADER + i * SFNT_ENTRY + j * 4, word));
    out.set(data, offset);
    offset += (data.length + 3) & ~3;
  }
  return out;
}

/** A table of a font, or null; `index` is the font's within a collection. */
export function tableOf(sfnt: Uint8Array, name: string, index = 0): Uint8Array | null {
  const view = viewOf(sfnt);
  const font = view.getUint32(0) === COLLECTION ? view.getUint32(COLLECTION_HEADER + index * 4) : 0;
  for (let i = 0; i < view.getUint16(font + 4); i += 1) {
    const at = font + SFNT_HEADER + i * SFNT_ENTRY;
    const found = String.fromCharCode(...sfnt.subarray(at, at + 4));
    if (found !== name) continue;
    const offset = view.getUint32(at + 8);
    return sfnt.subarray(offset, offset + view.getUint32(at + 12));
  }
  return null;
}

export interface Metrics {
  /** In units of the em. */
  readonly ascent: number;
  readonly descent: number;
  readonly box: readonly [number, number, number, number];
}

/** Of the whole font: what a PDF's font descriptor says. */
export function metricsOf(sfnt: Uint8Array): Metrics {
  const [head, hhea] = [tableOf(sfnt, "head"), tableOf(sfnt, "hhea")];
  assert(head !== null && hhea !== null, "a font has its head tables");
  const [h, v] = [viewOf(head), viewOf(hhea)];
  return {
    ascent: v.getInt16(4),
    descent: v.getInt16(6),
    box: [h.getInt16(36), h.getInt16(38), h.getInt16(40), h.getInt16(42)],
  };
}
