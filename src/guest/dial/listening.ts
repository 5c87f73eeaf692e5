/** The ports that programs in a guest listen on, from its kernel's own tables; every line of them is hostile. */
import { formatAddress, type IpAddress, unmapped } from "../../base/address.ts";
import type { PortInfo } from "../../contract/routes/ports.ts";
import { isWarrenError } from "../../errors.ts";

const TABLES = ["/proc/net/tcp", "/proc/net/tcp6"] as const;
const LISTEN = "0A";
/** Some 27000 sockets of one table. */
const TABLE_BYTES = 4 * 1024 * 1024;
/** `sl local rem st …`: the address as words in the guest's byte order, then the port. */
const LINE = /^ *\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} ([0-9A-F]{2}) /;

/** Words of 32 bits, each little-endian, as one address. */
function addressOf(hex: string): IpAddress {
  let value = 0n;
  for (let at = 0; at < hex.length; at += 8) {
    const word = Number.parseInt(hex.slice(at, at + 8), 16);
    const swapped = ((word & 0xff) << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
    value = (value << 32n) | BigInt(swapped >>> 0);
  }
  return { family: hex.length === 8 ? 4 : 6, value };
}

/** Listening sockets of one table; whatever is no line of one is skipped. */
export function parseTable(text: string): PortInfo[] {
  const found: PortInfo[] = [];
  for (const line of text.split("\n")) {
    const [, address, port, state] = LINE.exec(line) ?? [];
    if (address === undefined || port === undefined || state !== LISTEN) continue;
    const number = Number.parseInt(port, 16);
    if (number === 0) continue;
    found.push({ port: number, address: formatAddress(unmapped(addressOf(address))), protocol: "tcp" });
  }
  return found;
}

/** The beginning of a table, where the kernel puts what listens. */
async function beginning(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const piece of pieces) {
    parts.push(piece);
    length += piece.length;
    if (length >= TABLE_BYTES) break;
  }
  return Buffer.concat(parts).subarray(0, TABLE_BYTES).toString("latin1");
}

/** Lowest first, each port and address once. `read` has a guest's file. @throws {WarrenError} as reading a file does */
export async function listening(read: (path: string) => AsyncIterable<Uint8Array>): Promise<PortInfo[]> {
  const found = new Map<string, PortInfo>();
  for (const path of TABLES) {
    let text = "";
    try {
      text = await beginning(read(path));
    } catch (cause) {
      if (!isWarrenError(cause, "file_not_found")) throw cause; // a kernel without IPv6 has no table for it
    }
    for (const info of parseTable(text)) found.set(`${info.port} ${info.address}`, info);
  }
  return [...found.values()].sort((a, b) => a.port - b.port || a.address.localeCompare(b.address));
}
