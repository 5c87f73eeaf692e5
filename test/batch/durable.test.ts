/** The durable batch: resumed after every kind of end, with each item exactly once. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BatchOptions } from "../../src/batch/batch.ts";
import { type DurableAsk, type DurableHooks, runDurable } from "../../src/batch/durable/durable.ts";
import type { Item } from "../../src/batch/items/item.ts";
import { readJobs } from "../../src/batch/items/lines.ts";
import type { Row } from "../../src/batch/row.ts";
import type { Summary } from "../../src/batch/summary.ts";
import { WarrenError } from "../../src/errors.ts";
import { tryLockFile } from "../../src/host/home/lock.ts";
import { StubHost } from "./stub-host.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "warren-batch-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const jsonl = (items: readonly unknown[]) => items.map((item) => `${JSON.stringify(item)}\n`).join("");
const numbered = (count: number, code = "print x") => Array.from({ length: count }, (_, id) => ({ id, code }));

function write(items: readonly Item[] | string): string {
  const path = join(dir, "items.jsonl");
  writeFileSync(path, typeof items === "string" ? items : jsonl(items));
  return path;
}

interface Run {
  readonly stub: StubHost;
  readonly summary: Summary;
}

async function run(
  items: readonly Item[] | string,
  options: BatchOptions = {},
  more: { hooks?: DurableHooks; stub?: StubHost; ask?: Partial<DurableAsk> } = {},
): Promise<Run> {
  const stub = more.stub ?? new StubHost();
  const path = write(items);
  const ask = {
    items: { read: () => readJobs(Bun.file(path).stream()), again: true },
    out: join(dir, "out.jsonl"),
    options,
    ...more.ask,
  };
  const summary = await runDurable(
    { host: stub.host, moves: stub.moves, cores: 2, lock: tryLockFile },
    ask,
    more.hooks,
  );
  return { stub, summary };
}

function rows(name = "out.jsonl"): Row[] {
  const text = readFileSync(join(dir, name), "utf8");
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

/** Runs a batch in a process of its own and kills it once it has told that many rows, unless it ends before. */
async function killedAfter(count: number, args: string[]): Promise<{ lines: string[]; killed: boolean }> {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "child.ts"), ...args], { stdout: "pipe" });
  let text = "";
  for await (const chunk of child.stdout) {
    text += new TextDecoder().decode(chunk);
    if (text.split("\n").length - 1 > count) break;
  }
  const killed = Number.isFinite(count) && child.exitCode === null;
  if (killed) child.kill("SIGKILL");
  await child.exited;
  return {
    lines: text
      .split("\n")
      .slice(0, -1)
      .filter((line) => line.startsWith("row ")),
    killed,
  };
}

const ids = () => rows().map((row) => row.id);
const range = (count: number) => Array.from({ length: count }, (_, i) => i);

describe("runDurable", () => {
  test("runDurable writes rows in item order, and runs nothing the second time", async () => {
    const items = range(30).map((id) => ({ id, code: `sleep ${(id * 7) % 5}; print ${id}` }));
    const first = await run(items, { concurrency: 6 });
    expect(ids()).toEqual(range(30));
    expect(first.summary).toMatchObject({ rows: 30, ok: 30, failed: 0, timed_out: 0, kept: 0, missing: 0 });
    const before = readFileSync(join(dir, "out.jsonl"), "utf8");
    const second = await run(items, { concurrency: 6 });
    expect(second.stub.created).toBe(0);
    expect(second.summary).toMatchObject({ rows: 30, ok: 30, kept: 30 });
    expect(readFileSync(join(dir, "out.jsonl"), "utf8")).toBe(before);
    expect(readdirSync(dir).sort()).toEqual(["items.jsonl", "out.jsonl", "out.jsonl.journal"]);
  });

  test("runDurable runs only items that are new or changed", async () => {
    await run([
      { id: "a", code: "print 1" },
      { id: "b", code: "print 2" },
      { id: "c", code: "print 3", input: 1 },
    ]);
    const { stub, summary } = await run([
      { id: "new", code: "print 0" },
      { id: "c", code: "print 3", input: 2 },
      { id: "a", code: "print 1" },
    ]);
    expect(stub.created).toBe(2);
    expect(summary).toMatchObject({ rows: 3, kept: 1 });
    expect(ids()).toEqual(["new", "c", "a"]);
  });

  test("runDurable runs again what had no verdict, and keeps what had", async () => {
    const items = [
      { id: 1, code: "ours" },
      { id: 2, code: "exit 1" },
      { id: 3, code: "lose" },
    ];
    const first = await run(items, { retry: 0 });
    expect(first.summary).toMatchObject({ rows: 3, failed: 3 });
    const second = await run(items, { retry: 0 });
    expect(second.stub.created).toBe(1);
    expect(second.summary).toMatchObject({ rows: 3, failed: 3, kept: 2 });
  });

  test("runDurable reports a malformed line by its number and runs the rest", async () => {
    const bad: [number, string][] = [];
    const text = `{"id":1,"code":"print 1"}\n{"id":2,\n\n{"id":3}\n{"id":4,"code":"print 4"}\n{"id":1,"cmd":"x"}\n[]\n"x"\n\xff`;
    const bytes = Buffer.from(text, "latin1");
    writeFileSync(join(dir, "items.jsonl"), bytes);
    const read = () => readJobs(Bun.file(join(dir, "bytes.jsonl")).stream());
    writeFileSync(join(dir, "bytes.jsonl"), bytes);
    const { summary } = await run(
      [],
      {},
      {
        ask: { items: { read, again: true } },
        hooks: { onBadLine: (number, says) => bad.push([number, says]) },
      },
    );
    expect(ids()).toEqual([1, 4]);
    expect(summary).toMatchObject({ rows: 2, ok: 2, bad_lines: 6, missing: 0 });
    expect(bad.map(([number]) => number)).toEqual([2, 4, 6, 7, 8, 9]);
    expect(bad[0]?.[1]).toContain("is not JSON");
    expect(bad[1]?.[1]).toContain("exactly one of code and cmd");
    expect(bad[2]?.[1]).toBe('repeats the id "1" of line 1');
    expect(bad[5]?.[1]).toBe("is not UTF-8");
  });

  test("runDurable gives a second batch on the same output a clear error and lets the first finish", async () => {
    const begun = Promise.withResolvers<void>();
    const first = run(numbered(20, "sleep 5"), { concurrency: 2 }, { hooks: { onRow: () => begun.resolve() } });
    await begun.promise;
    await expect(run(numbered(20))).rejects.toThrow(/another batch is writing .*out\.jsonl: wait for it/);
    expect((await first).summary.rows).toBe(20);
  });

  test("runDurable refuses other settings, a file that is not its own, and a journal that is none", async () => {
    await run(numbered(2), { template: "base" });
    await expect(run(numbered(2), { template: "code-interpreter" })).rejects.toThrow(
      'these results were begun with template "base", this run says "code-interpreter"',
    );
    expect((await run(numbered(2), { template: "code-interpreter" }, { ask: { fresh: true } })).stub.created).toBe(2);

    writeFileSync(join(dir, "mine.txt"), "precious");
    await expect(run(numbered(1), {}, { ask: { out: join(dir, "mine.txt") } })).rejects.toMatchObject({
      code: "already_exists",
    });
    expect(readFileSync(join(dir, "mine.txt"), "utf8")).toBe("precious");
    writeFileSync(join(dir, "o.journal"), "something else\n");
    await expect(run(numbered(1), {}, { ask: { out: join(dir, "o") } })).rejects.toThrow("is not a journal");
    await expect(run(numbered(1), {}, { ask: { out: join(dir, "no/where") } })).rejects.toThrow("cannot be written");
  });

  test("runDurable leaves nothing behind when no item could run", async () => {
    await expect(run(numbered(3), { template: "nope" })).rejects.toMatchObject({ code: "template_not_found" });
    expect(readdirSync(dir)).toEqual(["items.jsonl"]);
  });

  test("runDurable keeps what finished when the host gives out, and goes on from there", async () => {
    const stub = new StubHost();
    stub.beforeCreate = (_, number) => {
      if (number > 5) throw new WarrenError("storage_exhausted", "no space");
    };
    await expect(run(numbered(10), { concurrency: 1 }, { stub })).rejects.toMatchObject({ code: "storage_exhausted" });
    expect(ids()).toEqual(range(5));
    const { summary, stub: next } = await run(numbered(10));
    expect(next.created).toBe(5);
    expect(summary).toMatchObject({ rows: 10, kept: 5 });
  });

  test("runDurable stops at an abort with its rows written, rows of earlier runs included", async () => {
    await run(numbered(10).slice(5));
    const stop = new AbortController();
    const items = numbered(10).map((item) =>
      item.id < 5 ? { ...item, code: item.id < 2 ? "print x" : "hang" } : item,
    );
    let seen = 0;
    const hooks = {
      onRow: () => {
        seen += 1;
        if (seen === 2) stop.abort(new WarrenError("cancelled", "stopped"));
      },
    };
    const { summary, stub } = await run(items, { concurrency: 2, signal: stop.signal }, { hooks });
    expect(summary).toMatchObject({ interrupted: true, rows: 2, missing: 8 });
    expect(stub.alive).toBe(0);
    expect(ids()).toEqual([0, 1, 5, 6, 7, 8, 9]);
  });

  test("runDurable tells rows in item order as early as it can", async () => {
    const told: number[] = [];
    const items = range(20).map((id) => ({ id, code: `sleep ${id === 0 ? 30 : 0}; print ${id}` }));
    const onText = async (text: Uint8Array) => {
      told.push(JSON.parse(new TextDecoder().decode(text)).id);
    };
    await run(items, { concurrency: 4 }, { hooks: { onText } });
    expect(told).toEqual(range(20));
  });

  test("runDurable survives a journal torn at any byte of its last lines", async () => {
    const items = numbered(6);
    await run(items, { concurrency: 1 });
    const journal = join(dir, "out.jsonl.journal");
    const whole = readFileSync(journal);
    const want = rows().map((row) => [row.id, row.stdout]);
    for (let cut = whole.length - 1; cut > whole.length - 700; cut -= 23) {
      writeFileSync(journal, whole.subarray(0, cut));
      await run(items, { concurrency: 1 });
      expect(rows().map((row) => [row.id, row.stdout])).toEqual(want);
    }
    writeFileSync(journal, whole.subarray(0, 10));
    await expect(run(items)).resolves.toMatchObject({ summary: { rows: 6 } });
  });

  test("runDurable runs again an item whose row is damaged in the middle of the journal", async () => {
    await run(numbered(5), { concurrency: 1 });
    const journal = join(dir, "out.jsonl.journal");
    const bytes = readFileSync(journal);
    const at = bytes.indexOf('"row":{"id":2');
    bytes.fill(0, at, at + 40);
    writeFileSync(journal, bytes);
    let damaged = 0;
    const { stub } = await run(
      numbered(5),
      {},
      {
        hooks: {
          onDamage: (lines) => {
            damaged = lines;
          },
        },
      },
    );
    expect([stub.created, damaged]).toEqual([1, 1]);
    expect(ids()).toEqual(range(5));
  });

  test("runDurable files artifacts beside the results, whatever they are called", async () => {
    const names = ["../../../../etc/passwd", "/work/..", ".hidden", "a b/ü\n.txt", "x/y/z", `${"n".repeat(250)}.csv`];
    const code = names.map((name) => `write /work/out/${name.replaceAll(" ", "_")} ${name.length}`).join("; ");
    const { summary } = await run([{ id: "../evil", code, output_paths: ["out"] }]);
    const [row] = rows();
    expect(summary.ok).toBe(1);
    expect(row?.artifacts).toHaveLength(names.length);
    for (const artifact of row?.artifacts ?? []) {
      expect(artifact.file).toMatch(/^out\.jsonl\.artifacts\/%2E\.%2Fevil\/[A-Za-z0-9%._~/-]+$/);
      expect(artifact.file?.split("/").every((part) => !part.startsWith("."))).toBe(true);
      const bytes = readFileSync(join(dir, artifact.file ?? ""));
      expect(bytes.length).toBe(artifact.size);
    }
    expect(readdirSync(dir).sort()).toEqual(["items.jsonl", "out.jsonl", "out.jsonl.artifacts", "out.jsonl.journal"]);
  });

  test("runDurable does not write artifacts through a symlink", async () => {
    symlinkSync("/tmp", join(dir, "out.jsonl.artifacts"));
    const { summary } = await run([{ id: 1, code: "write /work/a 1", output_paths: ["a"] }]);
    expect(summary).toMatchObject({ ok: 0, failed: 1 });
    expect(rows()[0]?.error).toContain("is a symlink");
    expect(existsSync("/tmp/1/work/a")).toBe(false);
  });

  test("runDurable charges each sandbox once over all runs, the torn ones up to where they were seen", async () => {
    const first = await run(numbered(4, "sleep 30"), { concurrency: 1 });
    expect(first.summary.vcpu_seconds).toBeGreaterThan(0.11);
    const second = await run(numbered(4, "sleep 30"));
    expect(second.summary.vcpu_seconds).toBeCloseTo(first.summary.vcpu_seconds, 6);
    expect(second.summary.gib_seconds).toBeCloseTo(first.summary.vcpu_seconds / 2, 6);
    expect(second.summary.cost_usd).toBeCloseTo(first.summary.vcpu_seconds * 0.000012, 8);
    // A sandbox without an end, in a run of which a tick was seen 2 s after its start.
    const journal = join(dir, "out.jsonl.journal");
    const size = { account: "a", template: "t", cpu: 2, memoryMib: 1024, reason: null, wallMs: 0 };
    const lines = [
      { kind: "run" },
      {
        kind: "move",
        move: {
          sandbox: "sb_x",
          sequence: 1,
          from: null,
          to: "creating",
          event: "created",
          monotonicMs: 5000,
          ...size,
        },
      },
      {
        kind: "move",
        move: {
          sandbox: "sb_x",
          sequence: 2,
          from: "creating",
          to: "running",
          event: "booted",
          monotonicMs: 5000,
          ...size,
        },
      },
      { kind: "tick", ms: 7000 },
    ];
    writeFileSync(journal, readFileSync(journal, "utf8") + jsonl(lines));
    const third = await run(numbered(4, "sleep 30"));
    expect(third.summary.vcpu_seconds).toBeCloseTo(first.summary.vcpu_seconds + 4, 6);
  });

  test("runDurable ends with each id exactly once after being killed at random points", async () => {
    const items = range(120).map((id) => ({ id, code: `sleep ${id % 4}; print ${id}` }));
    const path = write(items);
    const out = join(dir, "out.jsonl");
    const told = new Set<string>();
    let kills = 0;
    for (let round = 0; kills < 30 && round < 60; round++) {
      const { lines, killed } = await killedAfter((round * 7) % 9, [path, out, "4"]);
      if (killed) kills += 1;
      for (const line of lines) told.add(line);
      rmSync(out, { force: true });
    }
    const { lines: ran } = await killedAfter(Number.POSITIVE_INFINITY, [path, out, "4"]);
    expect(kills).toBeGreaterThanOrEqual(30);
    expect(rows().map((row) => [row.id, row.stdout])).toEqual(items.map(({ id }) => [id, `${id}\n`]));
    // What was told as done was never run again, nor was anything that is in the journal.
    expect(ran.filter((line) => told.has(line))).toEqual([]);
    const journal = readFileSync(`${out}.journal`, "utf8").split("\n");
    expect(journal.filter((line) => line.startsWith('{"kind":"row"'))).toHaveLength(120);
  }, 60_000);

  test("runDurable takes 50,000 items without holding them", async () => {
    const path = join(dir, "items.jsonl");
    const line = (id: number) => `{"id":${id},"code":"print ${"x".repeat(500)}"}\n`;
    writeFileSync(path, range(50_000).map(line).join(""));
    const out = join(dir, "out.jsonl");
    const child = Bun.spawn([process.execPath, join(import.meta.dir, "child.ts"), path, out, "64"], { stdout: "pipe" });
    const summary = JSON.parse((await new Response(child.stdout).text()).trimEnd().split("\n").at(-1) ?? "");
    expect(summary).toMatchObject({ rows: 50_000, ok: 50_000 });
    // 25 MB of items and as much of output went through.
    expect(summary.rss_mib).toBeLessThan(400);
    const counted = (await Bun.file(out).text()).split("\n");
    expect(counted.length).toBe(50_001);
    expect(JSON.parse(counted[49_999] ?? "").id).toBe(49_999);
  }, 120_000);

  test("runDurable goes on when its results were lost but the journal was not", async () => {
    await run(numbered(4));
    rmSync(join(dir, "out.jsonl"));
    const { stub } = await run(numbered(4));
    expect(stub.created).toBe(0);
    expect(ids()).toEqual(range(4));
    truncateSync(join(dir, "out.jsonl"), 3);
    await run(numbered(4));
    expect(ids()).toEqual(range(4));
  });
});
