/** Names of hosts as guests write them (Host, SNI), each as the one spelling that policies are asked about. */
import { formatAddress, parseAddress, unmapped } from "../../base/address.ts";

export interface Authority {
  readonly name: string;
  /** Null: none was given. */
  readonly port: number | null;
}

const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
/** What resolvers read as a number, and so as part of an address: `127.1`, `0x7f.1`. */
const NUMERIC = /^(?:\d+|0x[0-9a-f]*)$/;

/** Lower case, without a final dot; null for what is no DNS name or would be taken for an address. */
export function parseName(text: string): string | null {
  const name = (text.endsWith(".") ? text.slice(0, -1) : text).toLowerCase();
  if (name.length === 0 || name.length > 253) return null;
  const labels = name.split(".");
  if (!labels.every((label) => LABEL.test(label)) || NUMERIC.test(labels.at(-1) ?? "")) return null;
  return name;
}

/** `name`, `name:port`, an IPv4 address, or an IPv6 address in brackets; null for anything else. Addresses come out canonical. */
export function parseAuthority(text: string): Authority | null {
  const match = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([^:[\]]{1,254}))(?::([1-9]\d{0,4}))?$/.exec(text);
  if (match === null) return null;
  const [, six, plain = "", digits] = match;
  const port = digits === undefined ? null : Number(digits);
  if (port !== null && port > 65_535) return null;
  const address = parseAddress(six ?? plain);
  if (address !== null) return { name: formatAddress(unmapped(address)), port };
  const name = six === undefined ? parseName(plain) : null;
  return name === null ? null : { name, port };
}

/** As it stands in a Host header. */
export function formatAuthority({ name, port }: Authority): string {
  const host = name.includes(":") ? `[${name}]` : name;
  return port === null ? host : `${host}:${port}`;
}
