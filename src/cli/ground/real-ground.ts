/** The ground of a real command line: this machine's home, opened when a verb needs it and no sooner. */
import { existsSync } from "node:fs";
import { systemClock } from "../../base/clock.ts";
import { createLog } from "../../base/log.ts";
import { openWarren } from "../../compose.ts";
import { readCalling, readConfig } from "../../config.ts";
import { WarrenError } from "../../errors.ts";
import { removeAll } from "../../host/home/clean.ts";
import { tryLockFile } from "../../host/home/lock.ts";
import { runInForeground } from "../../host/run.ts";
import { endKeeper } from "../../keeper/client.ts";
import { examine } from "./examine.ts";
import type { Connected, Ground, Opened, Target } from "./ground.ts";
import { keepLogin, targetOf } from "./login.ts";

async function open(creates: boolean): Promise<Opened> {
  const warren = await openWarren(creates ? {} : { prepared: 0 });
  const { engine, host, sandboxes } = warren;
  return {
    host: sandboxes,
    moves: (listener) => engine.moves.subscribe(listener),
    cores: host.capacity().cores,
    memoryMib: () => engine.memoryMib(),
    [Symbol.asyncDispose]: () => warren[Symbol.asyncDispose](),
  };
}

async function connect(target: Target): Promise<Connected> {
  throw new WarrenError("unsupported", `${target.url} cannot be reached by this version`);
}

/** @throws {WarrenError} `invalid_request` – the environment */
export function realGround(): Ground {
  const config = readConfig();
  return {
    home: config.home,
    open: ({ creates }) => open(creates),
    connect,
    target: async (flags) => targetOf(flags, readCalling()),
    keepLogin: async (target) => keepLogin(readCalling().credentials, target),
    examine: () => examine(config),
    clean: async ({ force }) => {
      const log = createLog(config.log);
      // Without force it stays for sandboxes that live, because of which nothing is removed.
      if (existsSync(config.home)) await endKeeper({ home: config.home, clock: systemClock }, force ? "now" : "idle");
      const { killed } = await removeAll({ home: config.home, clock: systemClock, log, force });
      return { killed, home: config.home };
    },
    runScript: (path, args) => runInForeground([process.execPath, path, ...args]),
    lock: tryLockFile,
  };
}
