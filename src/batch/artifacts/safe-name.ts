/**
 * Names chosen by a guest or an item → names on this host: only `A-Z a-z 0-9 . _ -` and `%XX`, no component that is `.` or
 * `..` or starts with a dot, bounded in length and depth. Different names stay different. Pure.
 */

const COMPONENT_CHARS = 120;
const COMPONENTS_MAX = 16;

function isPlain(byte: number): boolean {
  const letter = (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a;
  return letter || (byte >= 0x30 && byte <= 0x39) || byte === 0x2e || byte === 0x5f || byte === 0x2d;
}

function shortHash(bytes: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex").slice(0, 16);
}

/** One path component. Long ones keep their beginning and end, so that the extension stays, around a digest. */
export function safeComponent(name: Uint8Array): string {
  let out = "";
  for (const [i, byte] of name.entries()) {
    const plain = isPlain(byte) && !(i === 0 && byte === 0x2e);
    out += plain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  if (out === "") return "%";
  if (out.length <= COMPONENT_CHARS) return out;
  return `${out.slice(0, 60)}%~${shortHash(name)}%~${out.slice(-20)}`;
}

/** A guest path as a relative path below some directory of ours. */
export function safePath(path: Uint8Array): string {
  const parts: Uint8Array[] = [];
  let start = 0;
  for (let i = 0; i <= path.length; i++) {
    if (i < path.length && path[i] !== 0x2f) continue;
    if (i > start) parts.push(path.subarray(start, i));
    start = i + 1;
  }
  if (parts.length === 0) return "%";
  if (parts.length <= COMPONENTS_MAX) return parts.map(safeComponent).join("/");
  return `%deep/${shortHash(path)}-${safeComponent(parts.at(-1) ?? path)}`;
}
