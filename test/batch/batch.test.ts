/** The batch over a host in memory: order, bounds, retries, verdicts, artifacts. */
import { describe, expect, test } from "bun:test";
import { tarHeader } from "../../src/base/tar.ts";
import { type BatchOptions, batch } from "../../src/batch/batch.ts";
import type { Item } from "../../src/batch/items/item.ts";
import type { Row } from "../../src/batch/row.ts";
import { WarrenError } from "../../src/errors.ts";
import { StubHost } from "./stub-host.ts";

async function run(
  stub: StubHost,
  items: Iterable<Item> | AsyncIterable<Item>,
  options: BatchOptions = {},
): Promise<Row[]> {
  const rows: Row[] = [];
  const parts = { host: stub.host, moves: stub.moves, cores: 2 };
  for await (const row of batch(parts, items, options)) rows.push(row);
  return rows;
}

async function one(item: Omit<Item, "id">, stub = new StubHost()): Promise<Row> {
  const [row] = await run(stub, [{ id: "a", ...item }]);
  if (row === undefined) throw new Error("no row");
  return row;
}

const text = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes);

describe("batch", () => {
  test("batch gives rows in item order with exactly the promised keys in the promised order", async () => {
    const items = Array.from({ length: 40 }, (_, i) => ({ id: i, code: `sleep ${(i * 7) % 11}; print ${i}` }));
    const rows = await run(new StubHost(), items, { concurrency: 8 });
    expect(rows.map((row) => row.id)).toEqual(items.map((item) => item.id));
    expect(rows.map((row) => row.stdout)).toEqual(items.map((item) => `${item.id}\n`));
    for (const row of rows) {
      expect(Object.keys(row).join(" ")).toBe(
        "id ok exit_code signal timed_out truncated stdout stderr artifacts error queued_ms create_ms exec_ms cost_usd",
      );
    }
  });

  test("batch never has more sandboxes alive than its concurrency, and one per item", async () => {
    const stub = new StubHost();
    await run(
      stub,
      Array.from({ length: 60 }, (_, i) => ({ id: i, cmd: "sleep 1" })),
      { concurrency: 5 },
    );
    expect(stub.mostAlive).toBe(5);
    expect(stub.created).toBe(60);
    expect(stub.alive).toBe(0);
  });

  test("batch does not start items further ahead of its reader than the window", async () => {
    const stub = new StubHost();
    let given = 0;
    async function* items() {
      for (let id = 0; ; id++) {
        given += 1;
        yield { id, code: "print x" };
      }
    }
    const reader = batch({ host: stub.host, moves: stub.moves, cores: 1 }, items(), { concurrency: 2 });
    for (let i = 0; i < 3; i++) await reader.next();
    for (let i = 0; i < 200; i++) await Promise.resolve();
    await reader.return(undefined);
    expect(given).toBeLessThan(3 + 2 * 16 + 4);
    expect(stub.alive).toBe(0);
  });

  test("batch gives input on stdin and as a file, a string as it is and other values as JSON", async () => {
    expect((await one({ code: "echo; cat /work/input.json", input: "a\nb" })).stdout).toBe("a\nba\nb");
    expect((await one({ code: "echo; cat /work/input.json", input: { a: [1, null] } })).stdout).toBe(
      '{"a":[1,null]}{"a":[1,null]}',
    );
    expect((await one({ code: "echo", input: null })).stdout).toBe("null");
    expect((await one({ code: "echo; cat /work/input.json" })).stdout).toBe("");
  });

  test("batch writes files below /work unless they are absolute, text and base64", async () => {
    const stub = new StubHost();
    await one({ code: "print x", files: { "a/b.txt": "hé", "/etc/c": { base64: "AAH/" } } }, stub);
    const files = stub.sandboxes.get("sb_1")?.files;
    expect(text(files?.get("/work/a/b.txt"))).toBe("hé");
    expect([...(files?.get("/etc/c") ?? [])]).toEqual([0, 1, 255]);
  });

  test("batch collects artifacts whatever the exit code", async () => {
    const row = await one({ code: "write /work/out.txt hello; exit 3", output_paths: ["out.txt"] });
    expect(row).toMatchObject({ ok: false, exit_code: 3, error: "exit code 3" });
    expect(row.artifacts).toHaveLength(1);
    expect(row.artifacts[0]).toMatchObject({
      path: "/work/out.txt",
      size: 5,
      sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
      file: null,
    });
    expect(text(row.artifacts[0]?.bytes)).toBe("hello");
  });

  test("batch says when a promised artifact is missing, though the exit code was 0", async () => {
    const row = await one({ code: "print done", output_paths: ["/work/chart.png"] });
    expect(row).toMatchObject({ ok: false, exit_code: 0, error: "output path /work/chart.png does not exist" });
  });

  test("batch takes a directory whole", async () => {
    const row = await one({ code: "write /work/out/a 1; write /work/out/d/b 22", output_paths: ["out"] });
    expect(row.artifacts.map((a) => [a.path, a.size])).toEqual([
      ["/work/out/a", 1],
      ["/work/out/d/b", 2],
    ]);
    expect(row.ok).toBe(true);
  });

  test("batch takes artifacts up to its bounds, says so, and does not read what is too large", async () => {
    const stub = new StubHost();
    const read: string[] = [];
    const { readFile } = stub.host;
    const host = {
      ...stub.host,
      readFile: (input: Parameters<typeof readFile>[0]) => {
        read.push(input.path);
        return readFile(input);
      },
    };
    const items = [
      { id: 1, code: "print x", files: { big: "x".repeat(65 * 2 ** 20), small: "s" }, output_paths: ["small", "big"] },
    ];
    const rows = await Array.fromAsync(batch({ host, moves: stub.moves, cores: 1 }, items));
    expect(rows[0]?.artifacts.map((a) => a.path)).toEqual(["/work/small"]);
    expect(rows[0]).toMatchObject({
      ok: false,
      exit_code: 0,
      error: "it left more than 67108864 bytes of artifacts; the rest was not taken",
    });
    expect(read).toEqual(["/work/small"]);

    const many = Array.from({ length: 1001 }, (_, i) => `write /work/d/${i} x`).join("; ");
    const [row] = await run(stub, [{ id: 2, code: many, output_paths: ["d"] }]);
    expect(row?.artifacts).toHaveLength(1000);
    expect(row?.error).toContain("more than 1000 artifacts");
  });

  test("batch stands an archive that lies, never ends, or is none", async () => {
    const header = (name: string, size: number) =>
      tarHeader({ kind: "file", name: Buffer.from(name), size, mode: 0o644, mtime: 0 });
    const endless = async function* () {
      for (;;) yield header("./same", 0);
    };
    const archives: [() => AsyncIterable<Uint8Array>, string][] = [
      [
        async function* () {
          yield Buffer.from("no archive");
        },
        "its archive is damaged",
      ],
      [
        async function* () {
          yield header("./a", 100);
          yield Buffer.from("short");
        },
        "its archive is damaged",
      ],
      [endless, "was not taken"],
      [
        async function* () {
          yield header("../../../etc/cron.d/x", 1);
          yield new Uint8Array(512);
        },
        "",
      ],
    ];
    for (const [archive, says] of archives) {
      const stub = new StubHost();
      stub.archive = archive;
      const row = await one({ code: "write /work/out/a 1", output_paths: ["out"] }, stub);
      expect(row.exit_code).toBe(0);
      expect(row.error ?? "").toContain(says);
      if (says === "") expect(row.artifacts[0]?.path).toBe("/work/out/../../../etc/cron.d/x");
    }
  });

  test("batch tells how each program ended", async () => {
    expect(await one({ code: "print a; error KeyError: 'Region'; exit 1" })).toMatchObject({
      ok: false,
      exit_code: 1,
      error: "exit code 1: KeyError: 'Region'",
    });
    expect(await one({ code: "signal SIGSEGV" })).toMatchObject({
      exit_code: null,
      signal: "SIGSEGV",
      error: "ended by SIGSEGV",
    });
    expect((await one({ code: "signal SIGKILL" })).error).toContain("no memory");
    expect(await one({ code: "timeout", timeout_seconds: 7 })).toMatchObject({
      ok: false,
      timed_out: true,
      error: "timed out after 7 s",
    });
    expect(await one({ code: "flood 2000000" })).toMatchObject({ ok: true, truncated: true });
  });

  test("batch keeps output that is not UTF-8 exactly, beside a readable text", async () => {
    const row = await one({ code: "bytes 61ff62" });
    expect(row.stdout).toBe("a\ufffdb");
    expect(row.stdout_base64).toBe("Yf9i");
    expect(Object.keys(row).at(-1)).toBe("stdout_base64");
    expect("stderr_base64" in row).toBe(false);
  });

  test("batch makes a row of a lost sandbox and the rest is unharmed", async () => {
    const stub = new StubHost();
    const rows = await run(stub, [
      { id: 1, code: "print a" },
      { id: 2, code: "print partial; lose" },
      { id: 3, code: "print c" },
    ]);
    expect(rows.map((row) => row.ok)).toEqual([true, false, true]);
    expect(rows[1]).toMatchObject({ exit_code: null, signal: null, stdout: "partial\n" });
    expect(rows[1]?.error).toContain("while it ran: sandbox sb_");
    expect(stub.created).toBe(3);
  });

  test("batch tries again what was not the item's doing, as often as it was told to", async () => {
    const stub = new StubHost();
    stub.beforeCreate = (_, number) => {
      if (number <= 2) throw new WarrenError("driver_failed", "no luck");
    };
    const [row] = await run(stub, [{ id: 1, code: "print a" }], { retry: 2 });
    expect(row).toMatchObject({ ok: true, stdout: "a\n" });
    expect(stub.created).toBe(3);

    const again = new StubHost();
    const [failed] = await run(again, [{ id: 1, code: "ours" }], { retry: 1 });
    expect(failed).toMatchObject({ ok: false, error: "while it ran: the stub failed" });
    expect(again.created).toBe(2);
  });

  test("batch ends with the error that no item can get past, and leaves nothing", async () => {
    const stub = new StubHost();
    const items = Array.from({ length: 9 }, (_, i) => ({ id: i, code: "sleep 5" }));
    await expect(run(stub, items, { template: "nope" })).rejects.toMatchObject({ code: "template_not_found" });
    expect(stub.alive).toBe(0);

    const broken = new StubHost();
    broken.beforeCreate = () => {
      throw new WarrenError("driver_failed", "QEMU is broken");
    };
    expect(
      run(
        broken,
        Array.from({ length: 500 }, (_, i) => ({ id: i, code: "print" })),
        { retry: 0 },
      ),
    ).rejects.toMatchObject({
      code: "driver_failed",
    });
    expect(broken.created).toBeLessThan(40);
  });

  test("batch with a chunk shares a sandbox among that many items and replaces one that broke", async () => {
    const stub = new StubHost();
    const items = Array.from({ length: 10 }, (_, i) => ({ id: i, code: i === 1 ? "lose" : `print ${i}` }));
    const rows = await run(stub, items, { chunk: 4, concurrency: 1 });
    expect(rows.map((row) => row.ok)).toEqual(items.map((_, i) => i !== 1));
    const programs = [...stub.sandboxes.values()].map((sandbox) => sandbox.programs);
    // Item 1 was not alone, so it is tried alone before it is blamed; 2 and 3 go on in a fresh one.
    expect(programs).toEqual([
      ["print 0", "lose"],
      ["lose"],
      ["print 2", "print 3"],
      ["print 4", "print 5", "print 6", "print 7"],
      ["print 8", "print 9"],
    ]);
    expect(stub.alive).toBe(0);
  });

  test("batch stops at an abort: nothing stays, and the reason comes out", async () => {
    const stub = new StubHost();
    const stop = new AbortController();
    const parts = { host: stub.host, moves: stub.moves, cores: 2 };
    const items = [{ id: 0, code: "print a" }, ...Array.from({ length: 9 }, (_, i) => ({ id: i + 1, code: "hang" }))];
    const rows = batch(parts, items, { concurrency: 3, signal: stop.signal });
    expect((await rows.next()).value).toMatchObject({ id: 0, ok: true });
    const next = rows.next();
    stop.abort(new WarrenError("cancelled", "enough"));
    await expect(next).rejects.toMatchObject({ code: "cancelled" });
    expect(stub.alive).toBe(0);
  });

  test("batch prices each row by its sandbox's moves", async () => {
    const row = await one({ code: "sleep 50" });
    // 1 vCPU and 512 MiB: $0.000012 a second.
    expect(row.cost_usd).toBeGreaterThan(0.00000055);
    expect(row.cost_usd).toBeLessThan(0.000012);
  });

  test("batch refuses an item it cannot use, naming it", async () => {
    const bad = async (item: unknown) => run(new StubHost(), [item as Item]).then(String, String);
    expect(await bad({ id: 1 })).toContain("item 1: code: an item has exactly one of code and cmd");
    expect(await bad({ id: 1, code: "a", cmd: "b" })).toContain("exactly one");
    expect(await bad({ id: 1, code: "a", timeout: 3 })).toContain("timeout: not a known field");
    expect(await bad({ id: "a\nb", code: "a" })).toContain("id");
    expect(await bad({ id: 1, code: "a", files: { x: { base64: "###" } } })).toContain("base64");
    expect(await bad({ id: 1, code: "a", input: 1, files: { "input.json": "x" } })).toContain("given twice");
    expect(await bad({ id: 1, code: "a", timeout_seconds: -1 })).toContain("timeout_seconds");
    expect(
      run(new StubHost(), [
        { id: 1, code: "a" },
        { id: "1", code: "b" },
      ]),
    ).rejects.toThrow('item 2 repeats the id "1" of item 1');
  });

  test("batch checks its options", async () => {
    for (const options of [
      { concurrency: 0 },
      { chunk: 1.5 },
      { retry: -1 },
      { timeoutSeconds: 0 },
      { ttlSeconds: -1 },
    ]) {
      await expect(run(new StubHost(), [], options)).rejects.toMatchObject({ code: "invalid_request" });
    }
  });
});
