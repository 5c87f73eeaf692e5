/** The name servers that this host itself asks. */
import { readFile } from "node:fs/promises";
import { hasCode } from "../../ffi/native.ts";
import { parseAddress } from "../base/address.ts";

/** As in resolv.conf(5): at most three, and without any, this host's own. */
const MOST = 3;
const ITSELF = "127.0.0.1";

/** The addresses of a resolv.conf's `nameserver` lines; what is none, or has a zone, is left out. Pure. */
export function nameServersIn(text: string): string[] {
  const found = [...text.matchAll(/^[ \t]*nameserver[ \t]+(\S+)/gm)].map(([, address]) => address ?? "");
  const usable = found.filter((address) => parseAddress(address) !== null).slice(0, MOST);
  return usable.length > 0 ? usable : [ITSELF];
}

/** Never fails for want of the file. */
export async function hostNameServers(path = "/etc/resolv.conf"): Promise<string[]> {
  try {
    return nameServersIn(await readFile(path, "utf8"));
  } catch (error) {
    if (!hasCode(error, "ENOENT", "EACCES")) throw error;
    return [ITSELF];
  }
}
