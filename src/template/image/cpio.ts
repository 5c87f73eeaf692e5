/** cpio "newc" archives, the form in which Linux takes an initramfs. Writing only; all times and owners zero, so equal input gives equal bytes. */

export interface CpioEntry {
  /** Relative, without a leading slash. */
  readonly path: string;
  readonly mode: number;
  readonly content?: Uint8Array;
}

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const encoder = new TextEncoder();

function hex(value: number): string {
  return value.toString(16).padStart(8, "0");
}

function pad4(length: number): number {
  return (4 - (length % 4)) % 4;
}

function record(inode: number, entry: CpioEntry): Uint8Array[] {
  const name = encoder.encode(`${entry.path}\0`);
  const content = entry.content ?? new Uint8Array(0);
  const type = entry.content === undefined ? S_IFDIR : S_IFREG;
  const fields = [inode, type | entry.mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = encoder.encode(`070701${fields.map(hex).join("")}`);
  return [
    header,
    name,
    new Uint8Array(pad4(header.length + name.length)),
    content,
    new Uint8Array(pad4(content.length)),
  ];
}

/** The archive of these entries, in this order; parents have to come first. */
export function cpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts = entries.flatMap((entry, i) => record(i + 1, entry));
  parts.push(...record(0, { path: "TRAILER!!!", mode: 0, content: new Uint8Array(0) }));
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
