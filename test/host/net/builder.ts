/** A process that builds a slot's network and stops at the step it is told, until it is killed. Says its namespace's number first. */
import { readdirSync, readlinkSync, writeSync } from "node:fs";
import { systemClock } from "../../../src/base/clock.ts";
import { createLog } from "../../../src/base/log.ts";
import { Networks } from "../../../src/host/net/networks.ts";
import { lockSlot } from "../../../src/host/slots/slots.ts";

const [slot, stopAt] = [Number(process.argv[2]), process.argv[3]];

function stop(): never {
  const own = readlinkSync("/proc/self/ns/net");
  const spaces = readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return []; // the descriptor of this very listing
    }
  });
  const made = spaces.find((target) => target.startsWith("net:") && target !== own);
  writeSync(1, `${made}\n`);
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

const networks = new Networks({
  clock: systemClock,
  log: createLog("error"),
  lockFree: () => null,
  step: (name) => {
    if (name === stopAt) stop();
  },
});
if (lockSlot(slot) === null) throw new Error("the slot is taken");
const built = networks.build(slot);
if (built === null) throw new Error(networks.degraded ?? "no network");
networks.lend(built).network.apply({
  ...{ mode: "open", ranges: [], exempt: [], dnsPort: 5353, proxyPort: null, caught: "none" },
  limits: { bytesPerSecond: null, newConnectionsPerSecond: 10, connections: 10 },
});
stop();
