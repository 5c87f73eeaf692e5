/**
 * A process that owns jails, to be killed: `bun jail-owner.ts HOME ROOT MODE`. Says one line of JSON when it is ready.
 * "one": a jail that holds; "detached": one that outlives its owner, deadline in MODE's third part ("detached:500" ms);
 * "loop": makes and ends jails until killed.
 */
import { constants, openSync } from "node:fs";
import { systemClock } from "../../src/base/clock.ts";
import { nonce } from "../../src/base/id.ts";
import { createLog } from "../../src/base/log.ts";
import { jailInit } from "../../src/host/jail/init.ts";
import { type Jailed, spawnJailed } from "../../src/host/jail/jail.ts";
import { type LinuxHost, openLinuxHost } from "../../src/host/linux.ts";
import { createMemory, sealMemory } from "../../src/host/memory.ts";
import { hostBootId } from "../../src/host/slots/process-name.ts";

const [home = "", root = "", mode = ""] = process.argv.slice(2);
const [kind, deadlineMs] = mode.split(":");
const clock = systemClock;
const host = await openLinuxHost({ home, clock, log: createLog("warn") });
const memoryFd = createMemory("template", 1 << 20);
sealMemory(memoryFd);
const diskFd = openSync(host.data.dir, constants.O_RDWR | 0o20200000, 0o600);
const snapshot = { memoryFd, openState: () => openSync("/dev/null", "r"), diskFd };
const init = await jailInit(host.data.home);

async function make(
  on: LinuxHost,
  detached: boolean,
): Promise<{ jailed: Jailed; end: () => Promise<void>; id: string; uid: number }> {
  const id = `sb_${nonce()}`;
  const lease = await on.lease({ id, memoryMib: 128, cpu: 1, snapshot, detached });
  const deadlineNs = deadlineMs === undefined ? null : on.bootTimeNs() + BigInt(deadlineMs) * 1_000_000n;
  const jailed = await spawnJailed({
    init,
    argv: ["/attacker", "hold"],
    env: [],
    fds: [null, null, null, memoryFd, lease.disk.rwFd, lease.disk.roFd, lease.stateFd],
    root,
    devices: [],
    group: null,
    tap: { name: "tap0", mac: new Uint8Array([2, 0, 0, 0, 0, 1]) },
    rlimits: {},
    jail: { ...lease.jail, hostname: "jail", deadlineNs, detached },
  });
  lease.handedOver();
  const end = async () => {
    await jailed.kill();
    await lease[Symbol.asyncDispose]();
  };
  return { jailed, end, id, uid: lease.jail.uid };
}

function say(facts: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify(facts)}\n`);
}

if (kind === "loop") {
  say({ ready: true });
  for (;;) {
    const made = await Promise.all([make(host, false), make(host, false), make(host, true)]);
    await Promise.all(made.map((jail) => jail.end()));
  }
}
const made = await make(host, kind === "detached");
const { pid, startTicks, startMs } = made.jailed;
const ref = {
  id: made.id,
  pid,
  startTicks,
  hostBootId: hostBootId(),
  socketDir: `${host.data.run}/${made.id}`,
  startMs,
};
if (kind === "detached")
  await host.registry.put({ id: made.id, account: "local", info: {}, ref, env: {}, workdir: null } as never);
say({ ...ref, uid: made.uid });
await made.jailed.exited;
