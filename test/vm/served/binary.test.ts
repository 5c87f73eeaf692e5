/** Warren as one file, alone in an empty folder, with nothing of the checkout, Bun or Node near: it looks, runs and serves. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run, runOk } from "../../../src/host/run.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { until } from "../../harness/until.ts";
import { TEST_HOME, VM_BAKE_MS } from "../../harness/vm.ts";

if (gate("vm")) {
  // Stays in a home that was served once: no leak.
  beforeAll(() => {
    for (const name of ["server", "program"]) mkdirSync(join(TEST_HOME, name), { recursive: true });
  });
  guardLeaks("code-interpreter");
  let dir = "";
  /** Holds the one file and nothing else. */
  let alone = "";
  const key = `wrn_${"b".repeat(43)}`;
  const env = () => ({
    // Host commands alone: nothing that a developer has installed.
    PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: join(dir, "nobody"),
    WARREN_HOME: TEST_HOME,
    WARREN_ADMIN_KEY: key,
    ...(process.env["WARREN_MIRROR"] === undefined ? {} : { WARREN_MIRROR: process.env["WARREN_MIRROR"] }),
  });
  const warren = (...args: string[]) =>
    run([join(alone, "warren"), ...args], { deadlineMs: VM_BAKE_MS, cwd: dir, env: env() });

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "warren-binary-"));
    alone = join(dir, "alone");
    mkdirSync(alone);
    // In a process of its own: a bundler's threads stay.
    const build = join(import.meta.dir, "../../build/binary.ts");
    await runOk([process.execPath, build, join(dir, "built")], { deadlineMs: 120_000 });
    copyFileSync(join(dir, "built"), join(alone, "warren"));
    rmSync(join(dir, "built"));
  }, 120_000);
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  test("The binary tells its version and its help", async () => {
    expect(await warren("--version")).toMatchObject({ exitCode: 0, stdout: "0.1.0\n", stderr: "" });
    expect((await warren("serve", "--help")).stdout).toContain("--insecure-http");
    expect(readdirSync(alone)).toEqual(["warren"]);
  }, 60_000);

  test(
    "The binary examines this host",
    async () => {
      const { exitCode, stdout } = await warren("doctor", "--json");
      const { ok, home, findings } = JSON.parse(stdout);
      expect({ exitCode, ok, home }).toEqual({ exitCode: 0, ok: true, home: TEST_HOME });
      expect(findings.some(({ name }: { name: string }) => name === "acceleration")).toBe(true);
    },
    VM_BAKE_MS,
  );

  test(
    "The binary runs a batch, with templates that fit those of the checkout",
    async () => {
      const items = [
        { id: 1, code: "print(6 * 7)" },
        { id: 2, cmd: "cat input.json", input: { a: 1 } },
      ];
      writeFileSync(join(dir, "items.jsonl"), items.map((item) => JSON.stringify(item)).join("\n"));
      const { exitCode, stdout, stderr } = await warren("batch", "items.jsonl", "--out", "-", "--quiet");
      const rows = stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line));
      expect([exitCode, rows.map((row) => row.stdout)]).toEqual([0, ["42\n", '{"a":1}']]);
      expect(stderr).not.toContain("baking code-interpreter"); // the same sources, so the same digests
    },
    VM_BAKE_MS,
  );

  test(
    "The binary serves: a sandbox is made and used over HTTP, by the same file",
    async () => {
      const child = Bun.spawn([join(alone, "warren"), "serve", "--port", "0", "--json"], {
        ...{ cwd: dir, env: env(), stdin: "ignore", stdout: "pipe", stderr: "inherit" },
      });
      try {
        let told = "";
        const reading = (async () => {
          for await (const chunk of child.stdout) told += new TextDecoder().decode(chunk);
        })();
        await until("it is ready", () => told.includes('"ready"') || child.exitCode !== null, VM_BAKE_MS);
        const url = /"url":"([^"]+)"/.exec(told)?.[1] ?? "";
        const over = (...args: string[]) => warren(...args, "--host", url, "--key", key);
        const made = await over("create", "--template", "base", "--ttl", "5m");
        expect(made).toMatchObject({ exitCode: 0 });
        const id = made.stdout.trim();
        const used = await warren("exec", "--host", url, "--key", key, id, "echo $((6 * 7)); exit 3");
        expect(used).toMatchObject({ exitCode: 3, stdout: "42\n" });
        expect(await over("rm", id)).toMatchObject({ exitCode: 0, stdout: `${id}\n` });
        child.kill("SIGTERM");
        expect(await child.exited).toBe(0);
        await reading;
      } finally {
        child.kill("SIGKILL");
        await child.exited;
      }
    },
    VM_BAKE_MS,
  );
}
