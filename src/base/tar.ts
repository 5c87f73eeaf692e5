/** Writes tar headers: ustar, with GNU long names, which every tar reads. Pure. */

const BLOCK = 512;

export interface TarHeader {
  readonly kind: "file" | "directory" | "symlink";
  /** Relative, `/` between components. */
  readonly name: Uint8Array;
  readonly link?: Uint8Array;
  readonly size: number;
  readonly mode: number;
  /** Whole seconds since the epoch. */
  readonly mtime: number;
}

const TYPES = { file: "0", directory: "5", symlink: "2" } as const;
const OCTAL_SIZE_MAX = 8 ** 11;

function octal(value: number, width: number): string {
  return `${Math.max(0, Math.floor(value))
    .toString(8)
    .padStart(width - 1, "0")}\0`;
}

function put(block: Uint8Array, at: number, text: string): void {
  block.set(Buffer.from(text, "latin1"), at);
}

function putSize(block: Uint8Array, size: number): void {
  if (size < OCTAL_SIZE_MAX) {
    put(block, 124, octal(size, 12));
    return;
  }
  // GNU base-256: top bit set, then the number big-endian.
  block[124] = 0x80;
  new DataView(block.buffer, block.byteOffset).setBigUint64(128, BigInt(size));
}

function block(name: Uint8Array, link: Uint8Array, type: string, header: Omit<TarHeader, "kind" | "name" | "link">) {
  const out = new Uint8Array(BLOCK);
  out.set(name.subarray(0, 100), 0);
  put(out, 100, octal(header.mode & 0o7777, 8));
  put(out, 108, octal(0, 8));
  put(out, 116, octal(0, 8));
  putSize(out, header.size);
  put(out, 136, octal(header.mtime, 12));
  put(out, 148, "        ");
  put(out, 156, type);
  out.set(link.subarray(0, 100), 157);
  put(out, 257, "ustar  \0");
  const sum = out.reduce((total, byte) => total + byte, 0);
  put(out, 148, `${sum.toString(8).padStart(6, "0")}\0 `);
  return out;
}

/** A GNU long name or link target travels as the content of an entry of its own. */
function long(type: "L" | "K", text: Uint8Array): Uint8Array[] {
  if (text.length <= 100) return [];
  const size = text.length + 1;
  const header = block(Buffer.from("././@LongLink"), new Uint8Array(0), type, { size, mode: 0o644, mtime: 0 });
  return [header, text, new Uint8Array(1 + tarPadding(size))];
}

/** Zero bytes behind content of this size. */
export function tarPadding(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK;
}

/** What stands in the archive before the content of an entry. */
export function tarHeader(header: TarHeader): Uint8Array {
  const link = header.link ?? new Uint8Array(0);
  const own = block(header.name, link, TYPES[header.kind], header);
  return Buffer.concat([...long("K", link), ...long("L", header.name), own]);
}

/** What ends an archive. */
export function tarEnd(): Uint8Array {
  return new Uint8Array(2 * BLOCK);
}
