/** The unmodified npm package @pandastack/sdk against a server over real VMs: under Bun, under Node, and its own command line. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Client } from "@pandastack/sdk";
import { openWarren } from "../../../src/compose.ts";
import { gate } from "../../harness/gates.ts";
import { type ServerProcess, startServerProcess } from "../../harness/server.ts";
import { TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";
import { CASES } from "../../pandastack/cases.ts";
import { type Outcome, runCases } from "../../pandastack/run.ts";

const ROOT = join(import.meta.dir, "../../..");
const HAS = ["python", "vm"];
const CASES_MS = 240_000;

/** The cases as one file that Node runs, beside the packages that it imports. */
async function bundled(): Promise<string> {
  const outdir = join(ROOT, "node_modules/.warren-test");
  mkdirSync(outdir, { recursive: true });
  const entrypoints = [join(ROOT, "test/pandastack/run.ts")];
  const built = await Bun.build({ entrypoints, outdir, target: "node", packages: "external", naming: "[name].mjs" });
  if (!built.success) throw new Error(built.logs.join("\n"));
  return join(outdir, "run.mjs");
}

if (gate("root", "vm")) {
  describe("@pandastack/sdk 0.9.0", () => {
    let server: ServerProcess;
    let env: Record<string, string>;
    const outcomes = { Bun: new Map<string, string | null>(), Node: new Map<string, string | null>() };

    beforeAll(async () => {
      // What the server would bake before it is ready; here it may take as long as it takes.
      await using warren = await openWarren({ config: { home: TEST_HOME, log: "error" }, networkReserve: 0 });
      for (const template of ["base", "code-interpreter"]) await warren.engine.prepare({ template });
    }, VM_BAKE_MS);

    beforeAll(async () => {
      server = await startServerProcess({ home: TEST_HOME, readyMs: VM_BAKE_MS });
      const { PATH = "", HOME = "" } = process.env;
      env = { PATH, HOME, PANDASTACK_API: server.url, PANDASTACK_API_URL: server.url, PANDASTACK_API_KEY: server.key };
    }, VM_BAKE_MS);

    afterAll(async () => {
      await server?.end("SIGTERM");
      rmSync(join(ROOT, "node_modules/.warren-test"), { recursive: true, force: true });
    }, VM_TEST_MS);

    test(
      "is tried under Bun",
      async () => {
        process.env["PANDASTACK_API"] = server.url;
        process.env["PANDASTACK_API_KEY"] = server.key;
        const tell = ({ name, error }: Outcome) => void outcomes.Bun.set(name, error);
        await runCases(new Client(), new Set(HAS), "code-interpreter", tell);
        expect(outcomes.Bun.size).toBe(CASES.length);
      },
      CASES_MS,
    );

    if (gate("node")) {
      test(
        "is tried under Node",
        async () => {
          const argv = ["node", await bundled(), "run", HAS.join(","), "code-interpreter"];
          const child = Bun.spawn(argv, { env, stdout: "pipe", stderr: "pipe" });
          const [out, err] = await Promise.all([
            new Response(child.stdout).text(),
            new Response(child.stderr).text(),
            child.exited,
          ]);
          for (const line of out.split("\n").filter((text) => text.startsWith("{"))) {
            const { name, error } = JSON.parse(line) as Outcome;
            outcomes.Node.set(name, error);
          }
          if (outcomes.Node.size !== CASES.length) throw new Error(`${outcomes.Node.size} cases ran: ${err}`);
        },
        CASES_MS,
      );
    }

    for (const [runtime, told] of Object.entries(outcomes)) {
      if (runtime === "Node" && !gate("node")) continue;
      for (const { name } of CASES) {
        test(`${runtime}: ${name}`, () => expect(told.get(name)).toBeNull());
      }
    }

    const cli = async (...args: readonly string[]): Promise<string> => {
      const path = join(ROOT, "node_modules/@pandastack/sdk/dist/cli.js");
      const child = Bun.spawn(["node", path, ...args], { env, stdout: "pipe", stderr: "pipe" });
      const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
      if ((await child.exited) !== 0) throw new Error(`pandastack ${args.join(" ")}: ${out}${err}`);
      return out;
    };

    if (gate("node")) {
      test(
        "has a command line that creates, runs, writes, reads and deletes",
        async () => {
          const { id } = JSON.parse(await cli("sandbox", "create", "--template", "base", "--ttl", "300"));
          expect(await cli("sandbox", "exec", id, "--", "echo from the command line")).toContain(
            "from the command line",
          );
          await cli("fs", "write", id, "--path", "/tmp/file", "--content", "content");
          expect(await cli("fs", "read", id, "--path", "/tmp/file")).toContain("content");
          await cli("sandbox", "delete", id);
          expect(await cli("sandbox", "list")).not.toContain(id);
        },
        VM_TEST_MS,
      );
    }
  });
}
