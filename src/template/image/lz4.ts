/**
 * LZ4 legacy frames, as Linux kernels are packed: magic, then blocks of `u32 compressed length, data`, 8 MiB unpacked each.
 * Pure; every length is checked, so a damaged kernel ends in an error and never in a wrong image.
 */

const MAGIC = 0x184c2102;
const BLOCK_BYTES = 8 * 1024 * 1024;

/** A length of 15 in a token is continued by bytes until one is not 255. */
function extended(from: Uint8Array, at: number, start: number): { readonly length: number; readonly at: number } {
  let length = start;
  let next = at;
  for (let byte = 255; byte === 255; next++) {
    byte = from[next] ?? -1;
    if (byte < 0) throw new RangeError("lz4: block ends inside a length");
    length += byte;
  }
  return { length, at: next };
}

/** A match may overlap what it writes (that is how runs are coded), so it is copied forwards in pieces that do not. */
function copyMatch(to: Uint8Array, end: number, distance: number, length: number): void {
  for (let done = 0; done < length; ) {
    const piece = Math.min(length - done, distance + done);
    to.copyWithin(end + done, end - distance, end - distance + piece);
    done += piece;
  }
}

/** Unpacks one block into `to` at `start`; the result is where it ends. @throws {RangeError} on damage. */
function block(from: Uint8Array, to: Uint8Array, start: number): number {
  let read = 0;
  let end = start;
  while (read < from.length) {
    const token = from[read++] ?? 0;
    let literals = token >> 4;
    if (literals === 15) ({ length: literals, at: read } = extended(from, read, 15));
    if (read + literals > from.length || end + literals > to.length) throw new RangeError("lz4: literals past the end");
    to.set(from.subarray(read, read + literals), end);
    read += literals;
    end += literals;
    if (read === from.length) return end;
    const distance = (from[read] ?? 0) | ((from[read + 1] ?? 0) << 8);
    read += 2;
    let length = token & 15;
    if (length === 15) ({ length, at: read } = extended(from, read, 15));
    length += 4;
    if (distance === 0 || distance > end || end + length > to.length) throw new RangeError("lz4: match out of range");
    copyMatch(to, end, distance, length);
    end += length;
  }
  return end;
}

/**
 * Unpacks a legacy frame of which the unpacked size is known.
 * @throws {RangeError} – not such a frame, damaged, or of another size.
 */
export function unpackLz4Legacy(packed: Uint8Array, unpackedBytes: number): Uint8Array {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  if (packed.length < 8 || view.getUint32(0, true) !== MAGIC) throw new RangeError("lz4: not a legacy frame");
  const out = new Uint8Array(unpackedBytes);
  let read = 4;
  let end = 0;
  while (end < unpackedBytes) {
    if (read + 4 > packed.length) throw new RangeError("lz4: frame ends early");
    const length = view.getUint32(read, true);
    read += 4;
    if (length === 0 || read + length > packed.length) throw new RangeError("lz4: block past the end");
    const before = end;
    end = block(packed.subarray(read, read + length), out, end);
    if (end - before > BLOCK_BYTES) throw new RangeError("lz4: block too large");
    read += length;
  }
  return out;
}
