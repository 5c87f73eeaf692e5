/** Snapshots on real files: what is opened is what was saved, byte for byte, or it is refused. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { LIMITS } from "../../src/limits.ts";
import { FakeTemplates } from "../harness/fakes.ts";
import { fails } from "../suites/sandbox/subject.ts";
import { GROUND, makePoint, metaOf, openFiles, PAGE, type Pages, seen, snapshotsIn } from "./points.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "warren-snapshots-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const PAGES = 256; // 1 MiB
const pages = fc
  .array(fc.tuple(fc.nat(PAGES - 1), fc.nat({ max: 3 })), { maxLength: 60 })
  .map((list): Pages => new Map(list));

test("Snapshots.open gives what was saved, over any layers, flattened when there are many, and frees it with the last hold", async () => {
  let n = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(pages, { minLength: 1, maxLength: LIMITS.layerDepth + 3 }), async (layers) => {
      const id = `snap_${n++}`;
      using point = makePoint(dir, 1, layers, id);
      const expected = seen(point);
      const fds = openFiles(dir);
      await snapshotsIn(dir).save(point, metaOf(id));
      expect(point.holds()).toBe(0);
      const again = snapshotsIn(dir); // as another process would
      {
        using opened = await again.open("local", id);
        expect(opened.snapshot.layers.length).toBeLessThanOrEqual(LIMITS.layerDepth);
        expect(seen(opened).memory.equals(expected.memory)).toBe(true);
        expect(seen(opened).state.equals(expected.state)).toBe(true);
        expect(seen(opened).disk.equals(expected.disk)).toBe(true);
        const facts = ({ size, machine, warm, base, workingSetMib }: typeof opened | typeof point) => {
          return { size, machine, warm, base, workingSetMib };
        };
        expect(facts(opened)).toEqual(facts(point));
      }
      await again.remove("local", id);
      expect(openFiles(dir)).toBe(fds);
    }),
    { numRuns: 40 },
  );
  expect(readdirSync(join(dir, "snapshots", ".bases"))).toEqual([]);
}, 60_000);

const MAKER = join(import.meta.dir, "maker.ts");

async function make(step: number, what: string) {
  const child = Bun.spawn(["bun", MAKER, dir, String(step), what], { stdout: "pipe", stderr: "inherit" });
  const said = (await new Response(child.stdout).text()).trim();
  await child.exited;
  return { said, signal: child.signalCode };
}

const TWO: readonly Pages[] = [new Map([[1, 1]]), new Map([[2, 9]])];

test("Snapshots.save that is killed at any of its steps lists nothing half, and the next collection leaves nothing of it", async () => {
  const { said } = await make(-1, "save");
  const steps = Number(/whole after (\d+)/.exec(said)?.[1]);
  expect(steps).toBeGreaterThanOrEqual(6);
  await snapshotsIn(dir).remove("local", "snap_made");
  for (let step = 0; step < steps; step++) {
    expect((await make(step, "save")).signal).toBe("SIGKILL");
    const store = snapshotsIn(dir);
    const whole = step === steps - 1; // killed after it was published
    expect((await store.list("local")).map(({ meta }) => meta.id)).toEqual(whole ? ["snap_made"] : []);
    expect(readdirSync(join(dir, "snapshots")).some((name) => name.includes(".partial-"))).toBe(!whole);
    if (whole) await store.remove("local", "snap_made");
    await store.collect();
    expect(readdirSync(join(dir, "snapshots"))).toEqual([".bases"]);
    expect(readdirSync(join(dir, "snapshots", ".bases"))).toEqual([]);
  }
}, 30_000);

test("Snapshots.save that fails or is aborted leaves nothing, and the point is not held", async () => {
  for (let failing = 0; failing < 6; failing++) {
    let steps = 0;
    const store = snapshotsIn(dir, {
      step: () => {
        if (steps++ === failing) throw Object.assign(new Error("full"), { code: "ENOSPC" });
      },
    });
    using point = makePoint(dir, 1, TWO);
    const fds = openFiles(dir);
    await fails("storage_exhausted", store.save(point, metaOf("snap_a")));
    expect(point.holds()).toBe(0);
    await expect(store.save(point, metaOf("snap_a"), AbortSignal.abort(new Error("stop")))).rejects.toThrow("stop");
    expect(openFiles(dir)).toBe(fds);
    await store.collect();
    expect(readdirSync(join(dir, "snapshots"))).toEqual([".bases"]);
    expect(readdirSync(join(dir, "snapshots", ".bases"))).toEqual([]);
  }
});

test("Snapshots.open refuses what is damaged in any part, and what another host made, naming it; neither is removed", async () => {
  const store = snapshotsIn(dir);
  using point = makePoint(dir, 1, TWO);
  await store.save(point, metaOf("snap_a"));
  const folder = join(dir, "snapshots", "snap_a");
  for (const file of ["memory-0", "memory-1", "state", "disk", "manifest.json"]) {
    const path = join(folder, file);
    const good = readFileSync(path);
    const at = file === "memory-1" ? 2 * PAGE : file === "memory-0" ? PAGE : 2;
    const bad = Buffer.from(good);
    bad[at] = (bad[at] ?? 0) ^ 1;
    const fds = openFiles(dir);
    writeFileSync(path, bad);
    const error = await fails("snapshot_invalid", snapshotsIn(dir).open("local", "snap_a"));
    expect(error.message).toContain("snap_a is damaged");
    writeFileSync(path, good.subarray(0, good.length - PAGE));
    await fails("snapshot_invalid", snapshotsIn(dir).open("local", "snap_a"));
    expect(openFiles(dir)).toBe(fds);
    writeFileSync(path, good);
  }
  const templates = {
    memories: [],
    has: () => false,
    ground: async () => ({ ...GROUND, tscKhz: 7, cpuModel: "other" }),
  };
  const error = await fails("snapshot_invalid", snapshotsIn(dir, { templates }).open("local", "snap_a"));
  expect(error.details).toMatchObject({ differs: ["cpuModel", "tscKhz"], here: { tscKhz: 7 } });
  using opened = await snapshotsIn(dir).open("local", "snap_a"); // and it was none of these
  expect(opened.digest).toHaveLength(32);
});

test("Snapshots.remove refuses while anyone in any process holds it, and the fork's own descriptors count", async () => {
  const store = snapshotsIn(dir);
  using point = makePoint(dir, 1, TWO);
  await store.save(point, metaOf("snap_a", { name: "mine" }));
  const held = await store.open("local", "mine");
  const letGo = held.hold();
  held[Symbol.dispose]();
  await fails("snapshot_in_use", store.remove("local", "snap_a"));
  await fails("snapshot_in_use", snapshotsIn(dir).remove("local", "snap_a"));
  // A process that inherits the layer's descriptor, as a VMM does, keeps the lock when we have closed ours.
  const heir = Bun.spawn(["cat"], {
    stdin: "pipe",
    stdout: "pipe",
    stdio: ["pipe", "pipe", "inherit", held.snapshot.layers[1]!.fd],
  });
  letGo();
  await fails("snapshot_in_use", snapshotsIn(dir).remove("local", "snap_a"));
  heir.kill();
  await heir.exited;
  await snapshotsIn(dir).remove("local", "snap_a");
  await fails("not_found", store.find("local", "snap_a"));
  await fails("not_found", store.open("local", "snap_a"));
});

test("Snapshots of another account do not exist, and names find the newest", async () => {
  const store = snapshotsIn(dir);
  using point = makePoint(dir, 1, TWO);
  await store.save(point, metaOf("snap_a", { name: "n" }));
  await store.save(point, metaOf("snap_b", { name: "n", createdAt: "2031-02-04T00:00:00.000Z", sandboxId: "sb_y" }));
  expect((await store.find("local", "n")).meta.id).toBe("snap_b");
  expect((await store.list("local")).map(({ meta }) => meta.id)).toEqual(["snap_b", "snap_a"]);
  expect((await store.list("local", "sb_y")).map(({ meta }) => meta.id)).toEqual(["snap_b"]);
  expect(await store.list("other")).toEqual([]);
  for (const name of ["snap_a", "n", "../snapshots/snap_a", ".bases", ""])
    await fails("not_found", store.open("other", name));
  await fails("already_exists", store.save(point, metaOf("snap_a")));
  expect(readdirSync(join(dir, "snapshots", ".bases"))).toEqual([expect.stringMatching(/^[0-9a-f]{16}-\d+$/)]);
  expect(statSync(join(dir, "snapshots", "snap_a", "memory-0")).nlink).toBe(3);
});

test("Snapshots.saveImage: of two processes one takes it; put back it is there again, consumed it is not, a dead taker's is", async () => {
  const store = snapshotsIn(dir);
  using point = makePoint(dir, 1, TWO);
  await store.saveImage(point, metaOf("sb_x"));
  expect(await store.list("local")).toEqual([]);
  const takers = [0, 1].map(() => Bun.spawn(["bun", MAKER, dir, "0", "race"], { stdin: "pipe", stdout: "pipe" }));
  const lines = takers.map((taker) => taker.stdout.pipeThrough(new TextDecoderStream()).getReader());
  const said = async () => (await Promise.all(lines.map((line) => line.read()))).map(({ value }) => value?.trim());
  expect(await said()).toEqual(["ready", "ready"]);
  for (const taker of takers) taker.stdin.write("go\n");
  expect((await said()).sort()).toEqual(["none", "taken"]);
  expect(await store.takeImage("sb_x")).toBeNull();
  for (const taker of takers) taker.kill("SIGKILL");
  await Promise.all(takers.map((taker) => taker.exited));
  expect(await store.findImage("sb_x")).toMatchObject({ meta: { id: "sb_x" } });
  const taken = await store.takeImage("sb_x");
  expect(await store.takeImage("sb_x")).toBeNull();
  await taken?.putBack();
  const again = await store.takeImage("sb_x");
  {
    using opened = await again?.open();
    expect(seen(opened!).memory.equals(seen(point).memory)).toBe(true);
    await again?.consume();
    expect(seen(opened!).disk.equals(seen(point).disk)).toBe(true); // who has it open keeps it
  }
  await again?.putBack();
  expect(await store.takeImage("sb_x")).toBeNull();
  await store.saveImage(point, metaOf("sb_x"));
  await store.removeImage("sb_x");
  await store.removeImage("sb_x");
  expect(await store.listImages("local")).toEqual([]);
  expect(readdirSync(join(dir, "hibernated"))).toEqual([]);
});

test("Snapshots.promote makes a template that outlives its snapshot, and never takes a name that is taken", async () => {
  const store = snapshotsIn(dir);
  using point = makePoint(dir, 1, TWO);
  await store.save(point, metaOf("snap_a"));
  await store.promote("local", "snap_a", "mine");
  await fails("already_exists", store.promote("local", "snap_a", "mine"));
  await fails("already_exists", store.promote("local", "snap_a", "base"));
  await fails("not_found", store.promote("other", "snap_a", "theirs"));
  await store.remove("local", "snap_a");
  const templates = snapshotsIn(dir).with(new FakeTemplates());
  expect(templates.has("mine")).toBe(true);
  expect(templates.defaults("mine")).toMatchObject({ cpu: 1, memoryMib: 1 });
  expect((await templates.list()).map(({ name }) => name)).toEqual(["base", "code-interpreter", "mine"]);
  const opened = await templates.open({ name: "mine", cpu: 1, memoryMib: 1 });
  expect(await templates.open({ name: "mine", cpu: 1, memoryMib: 1 })).toBe(opened);
  expect(opened.size.name).toBe("mine");
  expect(seen(opened).memory.equals(seen(point).memory)).toBe(true);
  await fails("invalid_request", templates.open({ name: "mine", cpu: 2, memoryMib: 1 }));
  await fails(
    "invalid_request",
    templates.bake({ name: "mine", cpu: 1, memoryMib: 1 }, true, () => undefined),
  );
  await templates.remove("mine");
  expect(templates.has("mine")).toBe(false);
  expect(seen(opened).disk.equals(seen(point).disk)).toBe(true); // a create may have got it just before
  templates.close();
  expect(() => seen(opened)).toThrow();
  expect(readdirSync(join(dir, "promoted"))).toEqual([]);
});
