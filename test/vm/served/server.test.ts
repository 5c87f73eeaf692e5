/** `warren serve` over real VMs, in a process of its own that is killed: what it made lives, and the next one goes on with it. */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Client, connect } from "../../../src/client.ts";
import { cli, MAIN } from "../../harness/cli.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { until } from "../../harness/until.ts";
import { TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";

const KEY = `wrn_${"s".repeat(43)}`;

interface Served {
  readonly url: string;
  readonly client: Client;
  readonly child: Bun.Subprocess;
}

if (gate("vm")) {
  // Stays in a home that was served once: no leak.
  beforeAll(() => {
    for (const name of ["server"]) mkdirSync(join(TEST_HOME, name), { recursive: true });
  });
  guardLeaks("base");
  const children: Bun.Subprocess[] = [];
  let dir = "";
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "warren-server-"));
  });
  afterEach(async () => {
    for (const child of children.splice(0)) {
      child.kill("SIGKILL");
      await child.exited;
    }
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  async function started(): Promise<Served> {
    const child = Bun.spawn([process.execPath, MAIN, "serve", "--port", "0", "--json"], {
      env: { ...process.env, WARREN_HOME: TEST_HOME, WARREN_ADMIN_KEY: KEY, DATABASE_URL: "" },
      ...{ stdin: "ignore", stdout: "pipe", stderr: "inherit" },
    });
    children.push(child);
    let told = "";
    void (async () => {
      for await (const chunk of child.stdout) told += new TextDecoder().decode(chunk);
    })();
    await until("it is ready", () => told.includes('"ready"') || child.exitCode !== null, VM_BAKE_MS);
    expect(child.exitCode).toBeNull();
    const url = /"url":"([^"]+)"/.exec(told)?.[1] ?? "";
    return { url, client: connect({ url, key: KEY }), child };
  }

  async function steps({ client }: Served, id: string): Promise<string[]> {
    const all: string[] = [];
    for await (const { sequence, to } of await client.host.events({ id })) all.push(`${sequence} ${to}`);
    return all;
  }

  test(
    "A killed server leaves its sandboxes, and the next one has them with all that became of them",
    async () => {
      const first = await started();
      const [kept, asleep, ended] = [
        await first.client.Sandbox.create({ template: "base", ttlSeconds: 600 }),
        await first.client.Sandbox.create({ template: "base", ttlSeconds: 600 }),
        await first.client.Sandbox.create({ template: "base", ttlSeconds: 600 }),
      ];
      await kept.files.write("/work/note", "still here");
      await asleep.hibernate();
      await until("it is written down", async () => (await steps(first, asleep.id)).length === 3);
      first.child.kill("SIGKILL");
      await first.child.exited;
      expect((await cli(["rm", "--host", "local", ended.id])).code).not.toBe(0); // another account's: root's own home does not see it

      const second = await started();
      const third = await cli(["serve", "--port", "0"], { env: { WARREN_ADMIN_KEY: KEY } });
      expect([third.code, third.err]).toEqual([69, expect.stringContaining("another server serves")]);
      const again = await second.client.Sandbox.connect(kept.id);
      expect(await again.files.readText("/work/note")).toBe("still here");
      const listed = new Set((await second.client.Sandbox.list()).map(({ id }) => id));
      expect([kept.id, asleep.id, ended.id].every((id) => listed.has(id))).toBe(true);
      const woken = await second.client.Sandbox.connect(asleep.id);
      expect((await woken.exec("echo awake")).stdout).toBe("awake\n");
      for (const { id } of [kept, asleep, ended]) await second.client.host.close({ id });
      for (const { id } of [kept, asleep, ended]) {
        await until("its end is written", async () => (await steps(second, id)).at(-1)?.endsWith("deleted") === true);
      }
      expect(await steps(second, kept.id)).toEqual(["1 creating", "2 running", "3 stopping", "4 deleted"]);
      const slept = await steps(second, asleep.id);
      expect(slept.map((step) => step.split(" ")[0])).toEqual(slept.map((_, i) => String(i + 1)));
      expect(slept.map((step) => step.split(" ")[1]).slice(-3)).toEqual(["running", "stopping", "deleted"]);
      second.child.kill("SIGTERM");
      expect(await second.child.exited).toBe(0);
    },
    VM_BAKE_MS,
  );

  test(
    "A command that runs when the server is told to end is answered whole",
    async () => {
      const { client, child } = await started();
      const sandbox = await client.Sandbox.create({ template: "base", ttlSeconds: 600 });
      const out: string[] = [];
      const command = (async () => {
        for await (const event of await sandbox.stream("echo begun; sleep 2; echo done")) {
          if (event.kind === "stdout") out.push(Buffer.from(event.bytes).toString());
          if (event.kind === "started") child.kill("SIGTERM");
          if (event.kind === "exit") return event.exitCode;
        }
        return null;
      })();
      expect(await command).toBe(0);
      expect(out.join("")).toBe("begun\ndone\n");
      expect(await child.exited).toBe(0);
      const next = await started();
      await next.client.host.close({ id: sandbox.id });
      next.child.kill("SIGTERM");
      expect(await next.child.exited).toBe(0);
    },
    VM_TEST_MS,
  );
}
