/**
 * Clone hygiene: what must differ between clones of one snapshot does, over N of them (HYGIENE_CLONES, default 24; the
 * recorded run takes 200), and a control with the reseed switched off does collide, so the test can fail.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Warren } from "../../src/compose.ts";
import { Sandbox } from "../../src/sandbox.ts";
import { machineFacts, record } from "../bench/record.ts";
import { gate } from "../harness/gates.ts";
import { guardLeaks } from "../harness/leak-guard.ts";
import { openTestWarren, VM_BAKE_MS } from "../harness/vm.ts";

/** From so many on it is the recorded run, which appends its line to test/bench/results.ndjson. */
const RECORDED = 200;
const CLONES = Number(process.env["HYGIENE_CLONES"] ?? 24);
const AT_ONCE = 4;

/** One line of JSON: everything that two clones must not share, and the clone's clock. */
const PROBE = `
import json, os, random, socket, time, uuid
import numpy
def read(path):
    with open(path) as f:
        return f.read().strip()
print(json.dumps({
    "getrandom": os.getrandom(16).hex(),
    "urandom": os.urandom(16).hex(),
    "uuid4": str(uuid.uuid4()),
    "random": random.getrandbits(128),
    "numpy_default": int(numpy.random.default_rng().integers(2**62)),
    "numpy_legacy": int(numpy.random.randint(2**62)),
    "kernel_uuid": read("/proc/sys/kernel/random/uuid"),
    "boot_id": read("/proc/sys/kernel/random/boot_id"),
    "machine_id": read("/etc/machine-id"),
    "hostname": socket.gethostname(),
    "time": time.time(),
}))
`;

interface Seen {
  readonly facts: Readonly<Record<string, unknown>>;
  readonly clockOffMs: number;
}

/** The guest's clock against the middle of the exec, as seen from the host; half of the exec is the uncertainty. */
async function look(sandbox: Sandbox): Promise<Seen> {
  const before = Date.now();
  const { stdout, stderr } = await sandbox.exec(["date", "+%s.%N"]);
  const after = Date.now();
  const guestMs = Number(stdout) * 1000;
  const clockOffMs = guestMs < before ? guestMs - before : Math.max(0, guestMs - after);
  const probe = await sandbox.python(PROBE);
  if (probe.exitCode !== 0) throw new Error(`${stderr}${probe.stderr}`);
  const { time: _time, ...facts } = JSON.parse(probe.stdout) as Record<string, unknown>;
  return { facts, clockOffMs };
}

async function lookAtAll(warren: Warren, count: number): Promise<Seen[]> {
  const seen: Seen[] = [];
  const worker = async (): Promise<void> => {
    while (seen.length < count) {
      await using sandbox = await Sandbox.create({ template: "code-interpreter" }, warren.sandboxes);
      const one = await look(sandbox);
      if (seen.length < count) seen.push(one);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, count) }, worker));
  return seen;
}

/** Names of what two or more clones had in common. */
function collisions(seen: readonly Seen[]): string[] {
  const names = Object.keys(seen[0]?.facts ?? {});
  return names.filter((name) => new Set(seen.map(({ facts }) => String(facts[name]))).size < seen.length);
}

if (gate("vm")) {
  guardLeaks("code-interpreter");
  describe("Clones of one snapshot", () => {
    let warren: Warren;
    beforeAll(async () => {
      warren = await openTestWarren();
      await warren.engine.prepare({ template: "code-interpreter" });
    }, VM_BAKE_MS);
    afterAll(() => warren[Symbol.asyncDispose]());

    test(
      `share nothing that has to be their own, over ${CLONES}`,
      async () => {
        const seen = await lookAtAll(warren, CLONES);
        expect(seen.length).toBe(CLONES);
        expect(Object.keys(seen[0]!.facts).length).toBe(10);
        expect(collisions(seen)).toEqual([]);
        const clockOffMs = Math.max(...seen.map((one) => Math.abs(one.clockOffMs)));
        expect(clockOffMs).toBeLessThan(500);
        const facts = Object.keys(seen[0]!.facts);
        if (CLONES >= RECORDED)
          record({ bench: "hygiene", clones: CLONES, facts, collisions: 0, clockOffMs, ...(await machineFacts()) });
      },
      CLONES * 10_000,
    );

    test("without the reseed do collide, which shows that the test can see it", async () => {
      await using unseeded = await openTestWarren({ reseed: false, prepared: 0 });
      const seen = await lookAtAll(unseeded, 4);
      const shared = collisions(seen);
      expect(shared).toContain("boot_id");
      expect(shared.length).toBeGreaterThan(1);
    }, 120_000);
  });
}
