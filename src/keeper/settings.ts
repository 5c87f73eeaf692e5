/** What a configuration says of every sandbox's egress, for whichever process has it in hand. */
import { type AddressRange, formatAddress, parseAddress, parseRange } from "../base/address.ts";
import type { Config } from "../config.ts";
import type { EgressParts } from "../egress/egress.ts";
import { WarrenError } from "../errors.ts";
import { hostNameServers } from "../host/name-servers.ts";

/** Name servers of `WARREN_DNS`, else of this host, and what its operator opens. @throws {WarrenError} `invalid_request` */
export async function egressSettings(config: Config): Promise<Pick<EgressParts, "upstreams" | "exempt">> {
  return { upstreams: await nameServers(config.dns), exempt: exemptRanges(config.egressExempt) };
}

async function nameServers(given: string | null): Promise<{ address: string; port: number }[]> {
  const texts = given === null ? await hostNameServers() : given.split(",");
  return texts.map((text) => {
    const address = parseAddress(text);
    if (address === null) throw refused("WARREN_DNS", text, "addresses of name servers");
    return { address: formatAddress(address), port: 53 };
  });
}

function exemptRanges(given: string | null): AddressRange[] {
  return (given?.split(",") ?? []).map((text) => {
    const range = parseRange(text);
    if (range === null) throw refused("WARREN_EGRESS_EXEMPT", text, "addresses and ranges such as 10.1.0.0/16");
    return range;
  });
}

function refused(name: string, got: string, allowed: string): WarrenError {
  return new WarrenError("invalid_request", `environment variable ${name}: got ${got}, allowed are ${allowed}`, {
    details: { name, got },
  });
}
