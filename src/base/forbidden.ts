/**
 * Destinations that no sandbox may reach: everything that is not the public internet. IPv4 by IANA's special-purpose registry
 * (RFC 6890 and its updates); of IPv6 only 2000::/3 is public, without what embeds IPv4 addresses or is for documents.
 */
import { type AddressRange, contains, type IpAddress, parseRange, unmapped } from "./address.ts";

function ranges(texts: readonly string[]): readonly AddressRange[] {
  return texts.map((text) => {
    const range = parseRange(text);
    if (range === null) throw new TypeError(`no range: ${text}`);
    return range;
  });
}

export const FORBIDDEN: readonly AddressRange[] = ranges([
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16", // link-local, with the clouds' metadata at 169.254.169.254
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4", // with 255.255.255.255
  "::/3", // unspecified, loopback, IPv4-mapped and -compatible, 64:ff9b::/96, 100::/64
  "2001::/23", // Teredo, ORCHID, benchmarking: protocol assignments
  "2001:db8::/32",
  "2002::/16", // 6to4: an IPv4 address in the middle
  "3fff::/20",
  "4000::/2",
  "8000::/1", // unique local with fd00:ec2::254, link-local, multicast
]);

export function isForbidden(address: IpAddress, exempt: readonly AddressRange[]): boolean {
  const plain = unmapped(address);
  if (exempt.some((range) => contains(range, plain))) return false;
  return FORBIDDEN.some((range) => contains(range, plain));
}
