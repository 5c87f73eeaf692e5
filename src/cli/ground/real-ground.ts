/** The ground of a real command line: this machine's home or a server, opened when a verb needs it and no sooner. */
import { existsSync } from "node:fs";
import { systemClock } from "../../base/clock.ts";
import { createLog } from "../../base/log.ts";
import { readCalling, readConfig } from "../../config.ts";
import { tryLockFile } from "../../host/home/lock.ts";
import { connectedTo } from "./connected.ts";
import type { Connected, Ground, Opened, Target } from "./ground.ts";
import { keepLogin, targetOf } from "./login.ts";

async function open(creates: boolean): Promise<Opened> {
  const { openWarren } = await import("../../compose.ts");
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

/** Without anything of the engine's. */
async function connect({ url, key }: Target): Promise<Connected> {
  const client = await import("../../client.ts");
  return connectedTo(client.connect({ url, key }).host, systemClock, async () => undefined);
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
    examine: async () => (await import("./examine.ts")).examine(config),
    clean: async ({ force }) => {
      const { removeAll } = await import("../../host/home/clean.ts");
      const { endKeeper } = await import("../../keeper/client.ts");
      const log = createLog(config.log);
      // Without force it stays for sandboxes that live, because of which nothing is removed.
      if (existsSync(config.home)) await endKeeper({ home: config.home, clock: systemClock }, force ? "now" : "idle");
      const { killed } = await removeAll({ home: config.home, clock: systemClock, log, force });
      return { killed, home: config.home };
    },
    runScript: async (path, args) => {
      const { runInForeground } = await import("../../host/run.ts");
      return runInForeground([process.execPath, path, ...args]);
    },
    lock: tryLockFile,
  };
}
