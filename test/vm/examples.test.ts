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

  test(
    "matrix-build: eight cells from one installation, and only the sanitizer finds what is wrong",
    async () => {
      interface Cell {
        readonly variant: string;
        readonly exitCode: number | null;
        readonly tail: string;
        readonly commit: string;
        readonly installs: number;
      }
      const cells = (await runPattern("matrix-build")) as Cell[];
      expect(cells.length).toBe(8);
      expect(cells.filter(({ exitCode }) => exitCode !== 0).map(({ variant }) => variant)).toEqual(["gcc sanitized"]);
      const tailOf = (variant: string): string => cells.find((cell) => cell.variant === variant)?.tail ?? "";
      expect(tailOf("gcc sanitized")).toContain("signed integer overflow");
      expect(tailOf("gcc -O0")).toContain("cc -O0 -c"); // built for its variant …
      expect(tailOf("plain")).not.toContain("cc "); // … and not again for the one that was installed
      expect(tailOf("python -O")).toContain("optimize=1 TZ= checked");
      expect(tailOf("TZ=Asia/Tokyo")).toContain("optimize=0 TZ=Asia/Tokyo checked");
      expect(cells.every(({ installs }) => installs === 1)).toBe(true);
      expect(new Set(cells.map(({ commit }) => commit)).size).toBe(1);
      expect(cells[0]?.commit).toMatch(/^[0-9a-f]{40}$/);
    },
    VM_BAKE_MS,
  );

  test(
    "restart: after a crash the second half runs again from the snapshot, the first does not",
    async () => {
      expect(await runPattern("restart")).toEqual([
        {
          ...{ rowsAtOnce: 600, exitCode: null, signal: "SIGKILL", todo: 0, done: 0 },
          stages: ["extract 600", "transform 600"],
        },
        { rowsAtOnce: 100, exitCode: 0, signal: null, todo: 0, done: 600, stages: ["extract 600", "transform 100"] },
      ]);
    },
    VM_BAKE_MS,
  );

  test(
    "fork-on-explore: the same answer by hand and by explore, and the winner's work outlives it",
    async () => {
      const { head, byHand, explored, workspace, ...rest } = (await runPattern("fork-on-explore")) as {
        readonly head: string;
        readonly byHand: Record<string, number>;
        readonly explored: Record<string, number>;
        readonly workspace: string;
      };
      expect(head).toContain("2     2      NaN");
      expect(byHand).toEqual({ "fillna(0)": expect.closeTo(20 - 114 / 11), "dropna()": 1, "interpolate()": 0 });
      expect(explored).toEqual(byHand);
      expect(rest as unknown).toEqual({ winner: "interpolate()", reaped: 2, parentHas: "['df']" });
      expect(workspace.split("\n").slice(0, 5)).toEqual(["hour,celsius", "0,10.0", "1,12.0", "2,14.0", "3,16.0"]);
    },
    VM_BAKE_MS,
  );
}
