/**
 * What `kills.test.ts` ends: makes sandboxes of the test home, says their ids, and ends itself by SIGKILL at one step of one
 * job on all of them at once. `bun kill-child.ts JOB STEP`
 */
import { systemClock } from "../../../src/base/clock.ts";
import { createLog } from "../../../src/base/log.ts";
import { LOCAL_ACCOUNT } from "../../../src/compose.ts";
import { readConfig } from "../../../src/config.ts";
import { qemuDriver } from "../../../src/driver/qemu/driver.ts";
import { Engine } from "../../../src/engine/engine.ts";
import type { SnapshotMeta, TakenImage } from "../../../src/engine/snapshots.ts";
import type { OpenTemplate } from "../../../src/engine/templates.ts";
import { openLinuxHost } from "../../../src/host/linux.ts";
import { keeperOf } from "../../../src/keeper/start.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { Snapshots } from "../../../src/snapshot/store.ts";
import { Templates } from "../../../src/template/store.ts";
import { FileVolumes } from "../../../src/volume/store.ts";
import { TEST_HOME } from "../../harness/vm.ts";
import { COUNTER } from "./world.ts";

const [job = "", last = ""] = process.argv.slice(2);
const DETACHED = [false, true, true];
let armed = false;
let arrived = 0;

function end(): void {
  process.kill(process.pid, "SIGKILL");
}

/** Holds each sandbox there until all have come, and is the end then. */
async function at(step: string): Promise<void> {
  if (!armed || step !== last) return;
  arrived += 1;
  if (arrived === DETACHED.length) end();
  await new Promise<never>(() => undefined);
}

function stepping<T extends object>(inner: T, steps: readonly string[], result: (made: object) => object): T {
  return new Proxy(inner, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      if (!steps.includes(String(name))) return value.bind(target);
      return async (...args: unknown[]) => {
        await at(String(name));
        return result(await value.apply(target, args));
      };
    },
  });
}

class Stepping extends Snapshots {
  override async save(point: OpenTemplate, meta: SnapshotMeta, signal?: AbortSignal) {
    await at("store");
    const info = await super.save(point, meta, signal);
    await at("stored");
    return info;
  }

  override async saveImage(point: OpenTemplate, meta: SnapshotMeta, signal?: AbortSignal) {
    await at("store");
    const info = await super.saveImage(point, meta, signal);
    await at("stored");
    return info;
  }

  override async takeImage(id: string): Promise<TakenImage | null> {
    await at("take");
    const image = await super.takeImage(id);
    if (image === null) return null;
    return {
      ...image,
      open: async (signal) => {
        await at("open");
        return image.open(signal);
      },
      consume: async () => {
        await at("consume");
        await image.consume();
        await at("consumed");
      },
    };
  }
}

async function openEngine(): Promise<Engine> {
  const [clock, log, config] = [systemClock, createLog("error"), readConfig()];
  const host = await openLinuxHost({ home: TEST_HOME, clock, log });
  const { dir: dataDir } = host.data;
  const real = qemuDriver({ dataDir, binary: config.qemu, clock });
  const vmmSteps = ["pause", "capture", "save", "load", "resume", "connect", "kill"];
  const driver = stepping(real, ["prepare"], (vmm) => stepping(vmm, vmmSteps, (result) => result));
  const { mirror, kernel: kernelPath, accel } = config;
  const ensureRoom = (bytes: number) => host.data.ensureRoom(bytes);
  const templates = new Templates({ host, driver, clock, log, dataDir, mirror, kernelPath, accel, ensureRoom });
  const step = (name: string) => {
    if (armed && name === last) end();
  };
  const snapshots = new Stepping({ dataDir, shares: host.data.kind !== "copy", templates, step });
  const volumes = new FileVolumes({ data: host.data, clock });
  const { registry } = host;
  return new Engine(
    {
      driver,
      host,
      templates: snapshots.with(templates),
      snapshots,
      volumes,
      registry,
      egress: { upstreams: [], exempt: [] },
      keeper: keeperOf({ ...config, home: TEST_HOME }, clock),
      clock,
      log,
    },
    { prepared: 0 },
  );
}

const host = (await openEngine()).as(LOCAL_ACCOUNT);
const made = await Promise.all(
  DETACHED.map((detached) => Sandbox.create({ template: "base", detached, ttlSeconds: 300 }, host)),
);
for (const sandbox of made) {
  await sandbox.spawn(COUNTER);
  await sandbox.exec("until [ -s /root/n ]; do sleep 0.05; done");
}
if (job === "wake") await Promise.all(made.map((sandbox) => sandbox.hibernate()));
console.log(JSON.stringify(made.map(({ id }, i) => ({ id, detached: DETACHED[i] }))));
armed = true;
await Promise.all(
  made.map(async (sandbox) => {
    if (job === "snapshot") await sandbox.snapshot({ name: "cut-short" });
    if (job === "hibernate") await sandbox.hibernate();
    if (job === "wake") await sandbox.wake();
    await at("done");
  }),
);
process.exit(1); // it never came to that step
