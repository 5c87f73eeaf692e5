/**
 * A keeper's real process over a home without VMMs: records are files that a test writes, egress is a fake's, and each that is
 * opened is a line of a file. Arguments: the home, and how many times faster its clock runs.
 */
import { appendFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Clock, systemClock } from "../../src/base/clock.ts";
import { createLog } from "../../src/base/log.ts";
import type { SandboxRecord } from "../../src/engine/registry.ts";
import { FakeNetwork } from "../../src/host/fake-network.ts";
import { isRunning } from "../../src/host/slots/process-name.ts";
import { keepAlone } from "../../src/keeper/process.ts";
import { FakeEgress } from "./ground.ts";

const [home = "", speed = "1"] = process.argv.slice(2);
const faster = Number(speed);
const clock: Clock = {
  monotonicMs: () => systemClock.monotonicMs() * faster,
  wallMs: systemClock.wallMs,
  after: (delayMs, job, options) => systemClock.after(delayMs / faster, job, options),
  sleep: (delayMs, signal) => systemClock.sleep(delayMs / faster, signal),
};
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());

const fileOf = (id: string) => join(home, "records", `${id}.json`);
const get = async (id: string): Promise<SandboxRecord | null> => {
  if (!existsSync(fileOf(id))) return null;
  const record = JSON.parse(readFileSync(fileOf(id), "utf8")) as SandboxRecord;
  return isRunning(record.ref) ? record : null;
};

await keepAlone({ home, clock, log: createLog("silent"), signal: stop.signal }, () => ({
  registry: {
    get,
    list: async () => {
      const all = await Promise.all(readdirSync(join(home, "records")).map((name) => get(name.replace(".json", ""))));
      return all.filter((record) => record !== null);
    },
    put: async (record) => writeFileSync(fileOf(record.id), JSON.stringify(record)),
  },
  networkOf: () => new FakeNetwork(),
  lives: isRunning,
  open: async (_, policy, id) => {
    const egress = new FakeEgress(policy);
    appendFileSync(join(home, "opened"), `${process.pid} ${id} ${JSON.stringify(egress.shown)}\n`);
    return egress;
  },
  exempt: [],
  clock,
  log: createLog("silent"),
}));
process.exit(0);
