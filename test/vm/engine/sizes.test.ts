/** Sizes: one never asked for before is baked on first use, once, and the guest really has it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { Warren } from "../../../src/compose.ts";
import type { BakeEvent } from "../../../src/contract/routes/templates.ts";
import { LIMITS } from "../../../src/limits.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { expectNoLeaks, traces } from "../../harness/leaks.ts";
import { openTestWarren, TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";

const SIZE = { cpu: 2, memoryMb: 384 } as const;

const SNAPSHOTS = join(TEST_HOME, "data/templates/base");

/** Snapshots of a size in the home, by the names of their directories. */
function snapshots({ cpu, memoryMb }: { readonly cpu: number; readonly memoryMb: number } = SIZE): string[] {
  return readdirSync(SNAPSHOTS).filter((name) => name.startsWith(`${cpu}x${memoryMb}-`));
}

function forgetSizes(): void {
  for (const size of [SIZE, wide()])
    for (const name of snapshots(size)) rmSync(join(SNAPSHOTS, name), { recursive: true });
}

/** One vCPU more than this host has cores. */
function wide(): { readonly cpu: number; readonly memoryMb: number } {
  return { cpu: availableParallelism() + 1, memoryMb: SIZE.memoryMb };
}

/** What a create was refused with. */
function refusal(warren: Warren, input: Parameters<typeof Sandbox.create>[0]): Promise<unknown> {
  return Sandbox.create(input, warren.sandboxes).then(
    () => "it was created",
    (error: unknown) => error,
  );
}

if (gate("vm")) {
  guardLeaks("base");
  describe("A size", () => {
    let warren: Warren;
    const steps: BakeEvent[] = [];
    beforeAll(async () => {
      forgetSizes();
      warren = await openTestWarren({ prepared: 0, onBake: (event) => steps.push(event) });
    });
    afterAll(async () => {
      await warren[Symbol.asyncDispose]();
      forgetSizes();
    });

    test(
      "never asked for before is baked on first use, and the one who stops waiting for it does not stop it for the other",
      async () => {
        expect(snapshots()).toEqual([]);
        const leaving = new AbortController();
        const left = refusal(warren, { ...SIZE, signal: leaving.signal });
        const staying = Sandbox.create(SIZE, warren.sandboxes);
        leaving.abort();
        expect(await left).toMatchObject({ code: "cancelled" });
        await using sandbox = await staying;
        expect(snapshots().length).toBe(1);
        expect(steps.length).toBeGreaterThan(2);

        expect(await sandbox.info()).toMatchObject({ ...SIZE, template: "base" });
        const { stdout } = await sandbox.exec("nproc; awk '/^MemTotal:/ {print $2}' /proc/meminfo");
        const [nproc, memTotalKib] = stdout.trim().split("\n").map(Number);
        expect(nproc).toBe(SIZE.cpu);
        // The guest's kernel keeps some for itself: 45 MiB of 384 measured.
        expect(memTotalKib! / 1024).toBeLessThanOrEqual(SIZE.memoryMb);
        expect(memTotalKib! / 1024).toBeGreaterThan(SIZE.memoryMb * 0.8);
      },
      VM_BAKE_MS,
    );

    test(
      "is not baked again for the next create, in this process or another's",
      async () => {
        const [first] = snapshots();
        const baked = steps.length;
        {
          await using again = await Sandbox.create(SIZE, warren.sandboxes);
          expect((await again.exec("nproc")).stdout).toBe("2\n");
        }
        const later: BakeEvent[] = [];
        await using other = await openTestWarren({ prepared: 0, onBake: (event) => later.push(event) });
        await using third = await Sandbox.create(SIZE, other.sandboxes);
        expect((await third.exec("nproc")).stdout).toBe("2\n");
        expect([steps.length, later.length]).toEqual([baked, 0]);
        expect(snapshots()).toEqual([first!]);
      },
      VM_TEST_MS,
    );

    test(
      "whose bake is given up leaves nothing of it, and the next create bakes it; more vCPUs than cores are a note",
      async () => {
        const before = traces(TEST_HOME);
        const names = readdirSync(SNAPSHOTS).sort();
        const giveUp = new AbortController();
        await using hasty = await openTestWarren({
          prepared: 0,
          onBake: ({ says }) => {
            if (says === "booting the guest") giveUp.abort();
          },
        });
        expect(await refusal(hasty, { ...wide(), signal: giveUp.signal })).toMatchObject({ code: "cancelled" });
        expect(readdirSync(SNAPSHOTS).sort()).toEqual(names);
        await expectNoLeaks(before, TEST_HOME);

        await using sandbox = await Sandbox.create(wide(), warren.sandboxes);
        const { cpu } = wide();
        expect((await sandbox.exec("nproc")).stdout).toBe(`${cpu}\n`);
        const { notes } = await sandbox.info();
        expect(notes).toEqual([expect.stringContaining(`${cpu} vCPUs share the host's ${cpu - 1} core`)]);
      },
      VM_BAKE_MS,
    );

    test("below the minimum or beyond the maximum is refused, naming the field, what came and what is allowed", async () => {
      const wrong = [
        [{ memoryMb: LIMITS.memoryMibMin - 1 }, "memoryMb", String(LIMITS.memoryMibMin)],
        [{ memoryMb: LIMITS.memoryMibMax + 1 }, "memoryMb", String(LIMITS.memoryMibMax)],
        [{ cpu: 0 }, "cpu", "1"],
        [{ cpu: LIMITS.cpuMax + 1 }, "cpu", String(LIMITS.cpuMax)],
        [{ cpu: 1.5 }, "cpu", "integer"],
      ] as const;
      for (const [input, field, allowed] of wrong) {
        const error = await refusal(warren, input);
        expect(error).toMatchObject({ code: "invalid_request", fault: "caller", details: { field } });
        const came = Object.values(input)[0];
        expect(String(error)).toMatch(new RegExp(`${field}: got ${came}, allowed is .*${allowed}`));
      }
      expect(await warren.sandboxes.list({ state: "creating" })).toEqual([]);
    });
  });
}
