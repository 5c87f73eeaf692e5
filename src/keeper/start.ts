/** How a keeper is started: the command line's own verb for it, in a process that outlives the one that needs it. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { type Config, environmentOf } from "../config.ts";
import { WarrenError } from "../errors.ts";
import { type Apart, COMMAND_ENV, startApart } from "../host/run.ts";
import { KeeperClient } from "./client.ts";

const MAIN = join(import.meta.dir, "../cli/main.ts");
/** In the path of a program that is one file, runtime and all: it is its own command line. */
const COMPILED = "/$bunfs/";

/** The keeper of this configuration's home, which exists; it is started when the first question comes. */
export function keeperOf(config: Config, clock: Clock): KeeperClient {
  return new KeeperClient({ home: config.home, clock, start: () => startKeeper(environmentOf(config)) });
}

/**
 * Starts one with these settings and nothing else of this process's environment.
 * @throws {WarrenError} `host_unsupported` – the program's files are not there, as when they were bundled into another
 */
function startKeeper(settings: Readonly<Record<string, string>>): Apart {
  const env = { ...COMMAND_ENV, ...settings };
  if (Bun.main.includes(COMPILED)) return startApart([process.execPath, "keep-network"], env);
  if (!existsSync(MAIN)) {
    const says =
      "detached sandboxes with a network need the files of warren on disk: they were packed into another program";
    throw new WarrenError("host_unsupported", says);
  }
  // Small rather than quick. Neither a .env nor a bunfig.toml has a say here.
  const bun = [process.execPath, "--smol", "--no-env-file", "--config=/dev/null"] as const;
  return startApart([...bun, MAIN, "keep-network"], env);
}
