/** The README's five lines, in an empty folder, after `bun add` of what `npm pack` would publish: nothing of the checkout is near. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run, runOk } from "../../src/host/run.ts";
import { gate } from "../harness/gates.ts";
import { guardLeaks } from "../harness/leak-guard.ts";
import { TEST_HOME, VM_BAKE_MS } from "../harness/vm.ts";

const ROOT = join(import.meta.dir, "../..");
const BUN = process.execPath;
const env = { ...(process.env as Record<string, string>), WARREN_HOME: TEST_HOME };

/** The first program in the README that imports the package. */
async function fiveLines(): Promise<string> {
  const readme = await Bun.file(join(ROOT, "README.md")).text();
  const block = /```ts\n(import \{ Sandbox \}[\s\S]*?)```/.exec(readme)?.[1];
  if (block === undefined) throw new Error("the README shows no embedded program");
  return block;
}

if (gate("vm")) {
  guardLeaks("code-interpreter");
  let dir = "";
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "warren-package-"));
  });
  afterAll(() => rm(dir, { recursive: true, force: true }));

  test(
    "The embedded program of the README runs in an empty folder",
    async () => {
      await runOk([BUN, "pm", "pack", "--destination", dir, "--ignore-scripts"], {
        deadlineMs: 60_000,
        cwd: ROOT,
        env,
      });
      const packed = [...new Bun.Glob("*.tgz").scanSync(dir)];
      expect(packed.length).toBe(1);
      const app = join(dir, "app");
      await Bun.write(join(app, "package.json"), '{ "name": "app", "private": true }');
      await runOk([BUN, "add", join(dir, packed[0]!)], { deadlineMs: 120_000, cwd: app, env });
      await Bun.write(join(app, "main.ts"), await fiveLines());
      const { stdout, stderr, exitCode } = await run([BUN, "main.ts"], { deadlineMs: 300_000, cwd: app, env });
      expect({ stdout, stderr, exitCode }).toEqual({ stdout: "42\n\n", stderr: "", exitCode: 0 });
    },
    VM_BAKE_MS,
  );
}
