/**
 * Children of forks are machines of their own: what must differ does, over N of them (FORK_CHILDREN, default 16; the recorded
 * run takes 200), the parent included, and a control with the reseed switched off does collide.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Warren } from "../../../src/compose.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { machineFacts, record } from "../../bench/record.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { openTestWarren, VM_BAKE_MS } from "../../harness/vm.ts";

/** From so many on it is the recorded run, which appends its line to test/bench/results.ndjson. */
const RECORDED = 200;
const CHILDREN = Number(process.env["FORK_CHILDREN"] ?? 16);
const AT_ONCE = 8;

/** One line of JSON; the warm interpreter has numpy at hand, a new one would take seconds over it. */
const PROBE = `
import json, os, random, socket, sys, uuid
def read(path):
    with open(path) as f:
        return f.read().strip()
seen = {
    "getrandom": os.getrandom(16).hex(),
    "uuid4": str(uuid.uuid4()),
    "random": random.getrandbits(128),
}
if "numpy" in sys.modules or len(sys.argv) < 2:
    import numpy
    seen["numpy_default"] = int(numpy.random.default_rng().integers(2**62))
    seen["numpy_legacy"] = int(numpy.random.randint(2**62))
    seen["kernel_uuid"] = read("/proc/sys/kernel/random/uuid")
    seen["boot_id"] = read("/proc/sys/kernel/random/boot_id")
    seen["machine_id"] = read("/etc/machine-id")
    seen["hostname"] = socket.gethostname()
print(json.dumps(seen))
`;

interface Seen {
  readonly facts: Readonly<Record<string, unknown>>;
  readonly clockOffMs: number;
}

/** The guest's clock against the exec as seen from the host, whose ends are the uncertainty. */
async function look(sandbox: Sandbox): Promise<Seen> {
  const before = Date.now();
  const { stdout } = await sandbox.exec(["date", "+%s.%N"]);
  const after = Date.now();
  const guestMs = Number(stdout) * 1000;
  const clockOffMs = guestMs < before ? guestMs - before : Math.max(0, guestMs - after);
  const warm = await sandbox.python(PROBE);
  const cold = await sandbox.exec(["python3", "-c", PROBE, "cold"]);
  if (warm.exitCode !== 0 || cold.exitCode !== 0) throw new Error(warm.stderr + cold.stderr);
  const facts: Record<string, unknown> = JSON.parse(warm.stdout);
  for (const [name, value] of Object.entries(JSON.parse(cold.stdout))) facts[`new_${name}`] = value;
  return { facts, clockOffMs };
}

/** What the parent and `count` children of it see, a fork of several at a time. */
async function family(warren: Warren, count: number): Promise<Seen[]> {
  await using parent = await Sandbox.create({ template: "code-interpreter" }, warren.sandboxes);
  const seen: Seen[] = [];
  while (seen.length < count) {
    const children = await parent.forks(Math.min(AT_ONCE, count - seen.length));
    try {
      seen.push(...(await Promise.all(children.map(look))));
    } finally {
      await Promise.all(children.map((child) => child.close()));
    }
  }
  return [...seen, await look(parent)];
}

/** Names of what two or more had in common. */
function collisions(seen: readonly Seen[]): string[] {
  const names = Object.keys(seen[0]?.facts ?? {});
  return names.filter((name) => new Set(seen.map(({ facts }) => String(facts[name]))).size < seen.length);
}

if (gate("vm")) {
  guardLeaks("code-interpreter");

  describe("Children of forks", () => {
    let warren: Warren;
    beforeAll(async () => {
      warren = await openTestWarren({ prepared: 0 });
      await warren.engine.prepare({ template: "code-interpreter" });
    }, VM_BAKE_MS);
    afterAll(() => warren[Symbol.asyncDispose]());

    test(
      `and their parent share nothing that has to be their own, over ${CHILDREN}`,
      async () => {
        const seen = await family(warren, CHILDREN);
        const facts = Object.keys(seen[0]!.facts);
        expect(seen.length).toBe(CHILDREN + 1);
        expect(facts.length).toBe(12);
        expect(collisions(seen)).toEqual([]);
        const clockOffMs = Math.max(...seen.map((one) => Math.abs(one.clockOffMs)));
        expect(clockOffMs).toBeLessThan(500);
        if (CHILDREN >= RECORDED)
          record({
            bench: "fork identity",
            children: CHILDREN,
            facts,
            collisions: 0,
            clockOffMs,
            ...(await machineFacts()),
          });
      },
      CHILDREN * 10_000,
    );

    test("without the reseed do collide, which shows that the test can see it", async () => {
      await using unseeded = await openTestWarren({ reseed: false, prepared: 0 });
      const shared = collisions(await family(unseeded, 4));
      expect(shared).toContain("getrandom");
      expect(shared).toContain("boot_id");
      expect(shared).toContain("random");
    }, 120_000);
  });
}
