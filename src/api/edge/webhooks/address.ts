/**
 * Where a webhook may go: http or https, to a public address. A name is resolved and every address of it looked at each time, and
 * the connection goes to an address that was looked at, so that a name that changes its mind gains nothing.
 */
import { lookup } from "node:dns/promises";
import { parseAddress } from "../../../base/address.ts";
import { isForbidden } from "../../../base/forbidden.ts";
import { WarrenError } from "../../../errors.ts";

/** All addresses of a name. @throws when it has none */
export type Resolve = (name: string) => Promise<readonly string[]>;

/** As this host resolves names. */
export const systemResolve: Resolve = async (name) =>
  (await lookup(name, { all: true, verbatim: true })).map(({ address }) => address);

function refused(says: string): WarrenError {
  return new WarrenError("invalid_request", `url: ${says}`, { details: { field: "url" } });
}

/** @throws {WarrenError} `invalid_request` – it is no URL to send to */
export function webhookUrl(text: string): URL {
  if (!URL.canParse(text)) throw refused(`${JSON.stringify(text.slice(0, 80))} is no URL`);
  const url = new URL(text);
  if (url.protocol !== "http:" && url.protocol !== "https:") throw refused("only http and https are sent to");
  if (url.username !== "" || url.password !== "") throw refused("a name and password in it would be kept and shown");
  if (url.port === "0") throw refused("nothing is at port 0");
  url.hash = "";
  return url;
}

/** The name or literal address, without brackets. */
export function hostnameOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, "");
}

/**
 * An address of the URL's to connect to.
 * @throws {WarrenError} `invalid_request` – it has none, or any of them is not public and that is not allowed
 */
export async function publicAddress(url: URL, resolve: Resolve, allowPrivate: boolean): Promise<string> {
  const host = hostnameOf(url);
  const addresses = parseAddress(host) === null ? await resolved(host, resolve) : [host];
  const [first] = addresses;
  if (first === undefined) throw refused(`${host} has no address`);
  if (allowPrivate) return first;
  for (const text of addresses) {
    const address = parseAddress(text);
    if (address === null || isForbidden(address, []))
      throw refused(`${host} leads to ${text}, which is not on the public internet`);
  }
  return first;
}

async function resolved(host: string, resolve: Resolve): Promise<readonly string[]> {
  try {
    return await resolve(host);
  } catch (cause) {
    throw Object.assign(refused(`${host} cannot be resolved`), { cause });
  }
}
