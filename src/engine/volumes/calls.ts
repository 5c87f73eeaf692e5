/** The contract's calls on volumes, as one account has them. */
import { parse } from "../../contract/parse.ts";
import type { volumeRoutes } from "../../contract/routes/volumes.ts";
import { routes, type SandboxHost } from "../../contract/routes.ts";
import type { Hold } from "../hold.ts";
import type { Live } from "../live.ts";
import type { Volumes } from "./volumes.ts";

/** @param mine finds a sandbox of this account and process */
export function volumeCalls(
  volumes: Volumes,
  account: string,
  mine: (id: string) => Promise<Live>,
  hold: Hold,
): Pick<SandboxHost, keyof typeof volumeRoutes> {
  return {
    createVolume: (input) =>
      hold.during(async () => {
        const { name, sizeMb } = parse(routes.createVolume.input, input);
        return volumes.create(account, name, sizeMb);
      }),
    volumes: () => hold.during(() => volumes.list(account)),
    getVolume: (input) => hold.during(async () => volumes.get(account, parse(routes.getVolume.input, input).name)),
    resizeVolume: (input) =>
      hold.during(async () => {
        const { name, sizeMb } = parse(routes.resizeVolume.input, input);
        return volumes.resize(account, name, sizeMb);
      }),
    removeVolume: (input) =>
      hold.during(async () => volumes.remove(account, parse(routes.removeVolume.input, input).name)),
    attachVolume: (input, options) =>
      hold.during(async () => {
        const { id, ...asked } = parse(routes.attachVolume.input, input);
        return volumes.attach(await mine(id), asked, options);
      }),
    detachVolume: (input) =>
      hold.during(async () => {
        const { id, name } = parse(routes.detachVolume.input, input);
        return volumes.detach(await mine(id), name);
      }),
  };
}
