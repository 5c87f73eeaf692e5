/**
 * Creates that fail at each real point of their road, on the real host: a typed error each time, and afterwards neither a
 * process, namespace, mount, loop device, control group, socket, memory file nor file of theirs. CREATE_ABORTS is how many
 * are aborted at random times (default 40), CREATE_ABORTS_SEED where the series begins.
 */
import { describe, expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { type Clock, systemClock } from "../../../src/base/clock.ts";
import { createLog } from "../../../src/base/log.ts";
import { LOCAL_ACCOUNT, type Warren } from "../../../src/compose.ts";
import type { Driver, Link, Vmm } from "../../../src/driver/driver.ts";
import { Engine } from "../../../src/engine/engine.ts";
import { type ErrorCode, isWarrenError } from "../../../src/errors.ts";
import { keeperOf } from "../../../src/keeper/start.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { FileVolumes } from "../../../src/volume/store.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { expectNoLeaks, traces } from "../../harness/leaks.ts";
import { openTestWarren, TEST_HOME, VM_TEST_MS } from "../../harness/vm.ts";

const ABORTS = Number(process.env["CREATE_ABORTS"] ?? 40);
const SEED = Number(process.env["CREATE_ABORTS_SEED"] ?? 1);

/** Twenty times too fast: a minute's wait for a guest that says nothing is over after three seconds. */
const hasty: Clock = {
  ...systemClock,
  monotonicMs: () => 20 * systemClock.monotonicMs(),
  after: (ms, job, options) => systemClock.after(ms / 20, job, options),
  sleep: (ms, signal) => systemClock.sleep(ms / 20, signal),
};

/** A VMM of which some calls go wrong. */
function faulty(vmm: Vmm, change: Partial<Vmm>): Vmm {
  return {
    pid: vmm.pid,
    ref: vmm.ref,
    get exited() {
      return vmm.exited;
    },
    connect: (index, signal) => vmm.connect(index, signal),
    load: (signal) => vmm.load(signal),
    resume: (signal) => vmm.resume(signal),
    pause: (signal) => vmm.pause(signal),
    save: (fd, signal) => vmm.save(fd, signal),
    capture: (fd, since) => vmm.capture(fd, since),
    insert: (drive, medium) => vmm.insert(drive, medium),
    grow: (drive, sizeBytes) => vmm.grow(drive, sizeBytes),
    eject: (drive) => vmm.eject(drive),
    setDeadline: (ns) => vmm.setDeadline(ns),
    letGo: () => vmm.letGo(),
    kill: () => vmm.kill(),
    ...change,
  };
}

/** A driver whose VMMs are changed after they were started. */
function changed(driver: Driver, change: (vmm: Vmm) => Partial<Vmm>): Driver {
  return { ...driver, prepare: async (plan, signal) => faulty(...both(await driver.prepare(plan, signal), change)) };
}

function both(vmm: Vmm, change: (vmm: Vmm) => Partial<Vmm>): [Vmm, Partial<Vmm>] {
  return [vmm, change(vmm)];
}

/** The real link, from which something else is read. */
function saying(link: Link, bytes: () => AsyncIterable<Uint8Array>): Link {
  return { write: (sent) => link.write(sent), bytes: bytes(), close: () => link.close() };
}

/** So many chunks that are no frames, and then nothing more. */
async function* garbage(vmm: Vmm, chunks: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < chunks; i++) yield new Uint8Array(4096).fill(0xa5);
  await vmm.exited;
}

interface Fault {
  readonly code: ErrorCode;
  readonly says: string;
  /** Default the system's. */
  readonly clock?: Clock;
  readonly driver: (driver: Driver, nothingFd: number) => Driver;
}

const FAULTS: Readonly<Record<string, Fault>> = {
  "its VMM ends at once, since its disk is none": {
    code: "driver_failed",
    says: "the VMM ended",
    driver: (driver, nothingFd) => ({
      ...driver,
      prepare: (plan, signal) => driver.prepare({ ...plan, disk: { rwFd: nothingFd, roFd: nothingFd } }, signal),
    }),
  },
  "its device state is none": {
    code: "driver_failed",
    says: "the VMM ended",
    driver: (driver, nothingFd) => ({
      ...driver,
      prepare: (plan, signal) => driver.prepare({ ...plan, start: { kind: "restore", stateFd: nothingFd } }, signal),
    }),
  },
  "its VMM is killed while it loads": {
    code: "driver_failed",
    says: "the VMM ended",
    driver: (driver) =>
      changed(driver, (vmm) => ({
        load: (signal) => {
          const loading = vmm.load(signal);
          process.kill(vmm.pid, "SIGKILL");
          return loading;
        },
      })),
  },
  "its VMM is killed as soon as the guest runs": {
    code: "driver_failed",
    says: "the VMM ended",
    driver: (driver) =>
      changed(driver, (vmm) => ({
        resume: async (signal) => {
          await vmm.resume(signal);
          process.kill(vmm.pid, "SIGKILL");
        },
      })),
  },
  "its agent never answers": {
    code: "guest_unresponsive",
    says: "did not answer",
    clock: hasty,
    driver: (driver) =>
      changed(driver, (vmm) => ({
        connect: async (index, signal) => saying(await vmm.connect(index, signal), () => garbage(vmm, 0)),
      })),
  },
  "its agent says what is no protocol": {
    code: "guest_unresponsive",
    says: "did not answer",
    clock: hasty,
    driver: (driver) =>
      changed(driver, (vmm) => ({
        connect: async (index, signal) => saying(await vmm.connect(index, signal), () => garbage(vmm, 8)),
      })),
  },
};

/** An engine over the real host with a driver of the test's own. */
function engineOver(warren: Warren, driver: Driver, clock: Clock, prepared = 0): Engine {
  const { host, templates, snapshots } = warren;
  const volumes = new FileVolumes({ data: host.data, clock });
  const parts = {
    driver,
    host,
    templates,
    snapshots,
    volumes,
    registry: host.registry,
    egress: { upstreams: [], exempt: [] },
    keeper: keeperOf(warren.config, systemClock),
    clock,
    log: createLog("silent"),
  };
  return new Engine(parts, { prepared });
}

/** When the n-th create is aborted: spread evenly from at once to after its end. */
function abortMs(n: number, createMs: number): number {
  return ((n * 0.618_033_988_75 + SEED * 0.414_213_562_37) % 1) * createMs * 1.5;
}

/** Creates one and aborts it after that time: how long it took when it was made all the same, else null. It is closed then. */
async function abortedAfter(warren: Warren, ms: number, detached: boolean): Promise<number | null> {
  const startMs = systemClock.monotonicMs();
  const stop = new AbortController();
  const cancel = systemClock.after(ms, () => stop.abort());
  try {
    const options = { detached, ttlSeconds: 60, signal: stop.signal };
    await using _sandbox = await Sandbox.create(options, warren.sandboxes);
    return systemClock.monotonicMs() - startMs;
  } catch (error) {
    if (!isWarrenError(error, "cancelled")) throw error;
    return null;
  } finally {
    cancel();
  }
}

if (gate("vm")) {
  guardLeaks("base");
  describe("A create", () => {
    for (const [when, { code, says, driver, clock = systemClock }] of Object.entries(FAULTS)) {
      test(
        `fails with ${code} and leaves nothing when ${when}`,
        async () => {
          await using warren = await openTestWarren({ prepared: 0 });
          await warren.sandboxes.close({ id: (await warren.sandboxes.create({})).id }); // what is opened once is open now
          using stack = new DisposableStack();
          const nothingFd = stack.adopt(openSync("/dev/null", "r+"), closeSync);
          const before = traces(TEST_HOME);
          await using engine = engineOver(warren, driver(warren.driver, nothingFd), clock);
          for (const detached of [false, true]) {
            const input = { detached, ttlSeconds: 3600 };
            const error = await engine
              .as(LOCAL_ACCOUNT)
              .create(input)
              .catch((cause: unknown) => cause);
            expect(isWarrenError(error, code) ? error.message : error).toMatch(says);
          }
          await expectNoLeaks(before, TEST_HOME);
          expect(await warren.sandboxes.list({})).toEqual([]);
          await using sandbox = await Sandbox.create({}, warren.sandboxes); // and the next one is none the worse
          expect((await sandbox.exec("echo fine")).stdout).toBe("fine\n");
        },
        VM_TEST_MS,
      );
    }

    test(
      "takes a fresh VMM when the one that was prepared for it has been killed",
      async () => {
        await using warren = await openTestWarren({ prepared: 0 });
        const started: Vmm[] = [];
        const driver = changed(warren.driver, (vmm) => {
          started.push(vmm);
          return {};
        });
        await using engine = engineOver(warren, driver, systemClock, 1);
        expect(await engine.prepare({})).toBe(1);
        for (const { pid } of started) process.kill(pid, "SIGKILL");
        await using sandbox = await Sandbox.create({}, engine.as(LOCAL_ACCOUNT));
        expect((await sandbox.exec("echo fine")).stdout).toBe("fine\n");
        expect((await sandbox.info()).createPath).toBe("none");
      },
      VM_TEST_MS,
    );

    test(
      `aborted at a random time leaves nothing, ${ABORTS} times`,
      async () => {
        let cancelled = 0;
        for (const prepared of [0, 2]) {
          const opened = traces(TEST_HOME);
          {
            await using warren = await openTestWarren({ prepared });
            const { id, createMs: firstMs } = await warren.sandboxes.create({});
            await warren.sandboxes.close({ id });
            let createMs = firstMs; // the fastest so far: on a busy host the first says little
            const before = traces(TEST_HOME);
            for (let n = 0; n < ABORTS / 2; n++) {
              const madeMs = await abortedAfter(warren, abortMs(n, createMs), n % 3 === 0);
              if (madeMs === null) cancelled += 1;
              else createMs = Math.min(createMs, madeMs);
              if (prepared === 0) await expectNoLeaks(before, TEST_HOME); // else the pool changes as it likes
            }
          }
          await expectNoLeaks(opened, TEST_HOME);
        }
        expect(cancelled).toBeGreaterThanOrEqual(ABORTS / 2);
      },
      30_000 + ABORTS * 5_000,
    );
  });
}
