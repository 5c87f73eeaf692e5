/** The contract's calls on a sandbox's network, as one account has them. */
import { parse } from "../../contract/parse.ts";
import type { networkRoutes } from "../../contract/routes/network.ts";
import { routes, type SandboxHost } from "../../contract/routes.ts";
import type { Hold } from "../hold.ts";
import type { Live } from "../live.ts";
import type { SandboxRecord } from "../registry.ts";
import type { Networks } from "./networks.ts";

/**
 * @param find a sandbox of this account: this process's, woken first when `wakes` and it hibernates, or the record of another's;
 * throws `not_found`
 */
export function networkCalls(
  networks: Networks,
  find: (id: string, wakes?: boolean) => Promise<Live | SandboxRecord>,
  hold: Hold,
): Pick<SandboxHost, keyof typeof networkRoutes> {
  return {
    network: (input) =>
      hold.during(async () => {
        const found = await find(parse(routes.network.input, input).id);
        return "ref" in found ? networks.infoOf(found) : networks.info(found);
      }),
    setNetwork: (input) =>
      hold.during(async () => {
        const { id, egress } = parse(routes.setNetwork.input, input);
        const found = await find(id, true);
        return "ref" in found ? networks.setOf(found, egress) : networks.set(found, egress);
      }),
    networkLog: (input) =>
      hold.during(async () => {
        const found = await find(parse(routes.networkLog.input, input).id);
        return "ref" in found ? networks.logOf(found) : networks.log(found);
      }),
  };
}
