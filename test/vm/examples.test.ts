/** The patterns that users were promised, run as the programs they are shown. They use the default home, so this sets it. */
import { expect, test } from "bun:test";
import { gate } from "../harness/gates.ts";
import { guardLeaks } from "../harness/leak-guard.ts";
import { TEST_HOME, VM_BAKE_MS } from "../harness/vm.ts";

const PATTERNS = `${import.meta.dir}/../examples/patterns`;

/** Runs one program in a process of its own, as a user would. */
async function runPattern(name: string): Promise<unknown> {
  const program = `const { run } = await import(${JSON.stringify(`${PATTERNS}/${name}.ts`)}); console.log(JSON.stringify(await run(), (k, v) => v instanceof Uint8Array ? v.toHex() : v)); process.exit(0);`;
  const child = Bun.spawn([process.execPath, "-e", program], {
    cwd: PATTERNS,
    env: { ...process.env, WARREN_HOME: TEST_HOME },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) throw new Error(`${name} ended with ${code}: ${err}`);
  return JSON.parse(out);
}

if (gate("vm")) {
  guardLeaks("code-interpreter");
  test(
    "batch-transform: a broken document is one failed result",
    async () => {
      const results = (await runPattern("batch-transform")) as { id: string; output?: unknown; error?: string }[];
      expect(results.map(({ id, output }) => [id, output])).toEqual([
        ["january", { rent: 900, food: 365 }],
        ["february", { rent: 900 }],
        ["broken", undefined],
      ]);
      expect(results[2]?.error).toContain("JSONDecodeError");
    },
    VM_BAKE_MS,
  );

  test(
    "fan-out: an endless item and a wrong one fail alone",
    async () => {
      const results = (await runPattern("fan-out")) as { id: string; ok: boolean; result?: unknown; error?: string }[];
      const byId = Object.fromEntries(results.map((result) => [result.id, result]));
      expect(byId["a"]).toEqual({ id: "a", ok: true, result: { total: 19.75 } });
      expect(byId["b"]).toEqual({ id: "b", ok: true, result: { total: 99.99 } });
      expect(byId["loop"]).toEqual({ id: "loop", ok: false, error: "timed out" });
      expect(byId["typo"]?.error).toContain("KeyError: 'txet'");
    },
    VM_BAKE_MS,
  );

  test(
    "stdin-transform: rows in, rows out",
    async () => {
      expect(await runPattern("stdin-transform")).toEqual([
        { item: "Widget", price: 9.99, quantity: 100, total: 999 },
        { item: "Gadget", price: 24.99, quantity: 50, total: 1249.5 },
      ]);
    },
    VM_BAKE_MS,
  );

  test(
    "artifacts: a summary and a chart come back as bytes",
    async () => {
      const artifacts = (await runPattern("artifacts")) as { path: string; bytes: string }[];
      const bytesOf = (path: string): Buffer => Buffer.from(artifacts.find((a) => a.path === path)?.bytes ?? "", "hex");
      expect(bytesOf("/work/summary.csv").toString()).toBe("category,revenue\nbooks,165\ngames,90\nmusic,30\n");
      expect(bytesOf("/work/chart.png").subarray(0, 8)).toEqual(Buffer.from("89504e470d0a1a0a", "hex"));
      expect(bytesOf("/work/chart.png").length).toBeGreaterThan(2000);
    },
    VM_BAKE_MS,
  );
}
