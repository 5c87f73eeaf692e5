/**
 * The unmodified npm package @pandastack/sdk against a server: a case for each of its methods that a sandbox service has.
 * Plain asserts and nothing of a test runner, so that the same cases run under Bun and under Node.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  AuthError,
  BadRequestError,
  Client,
  CommandError,
  ExploreError,
  NotFoundError,
  Sandbox,
  SandboxTimeout,
} from "@pandastack/sdk";

export interface Ground {
  /** Shared by the cases that leave a sandbox as it was. */
  readonly shared: Sandbox;
  readonly client: Client;
  /** A template with Python and code contexts. */
  readonly python: string;
}

export interface Case {
  readonly name: string;
  /** What of the server it needs that one over fakes does not have. */
  readonly needs?: "python" | "vm";
  readonly run: (ground: Ground) => Promise<void>;
}

/** Runs `job` with a sandbox of its own. */
async function own(client: Client, job: (box: Sandbox) => Promise<void>, options: object = {}): Promise<void> {
  const box = await client.sandboxes.create({ ttlSeconds: 600, ...options });
  try {
    await job(box);
  } finally {
    await box.kill().catch((error: unknown) => {
      if (!(error instanceof NotFoundError)) throw error; // a case that ends it itself
    });
  }
}

async function lines(source: AsyncIterable<string>): Promise<string[]> {
  const found: string[] = [];
  for await (const line of source) found.push(line);
  return found;
}

const life: readonly Case[] = [
  {
    name: "Sandbox.create by environment alone, then get, list, kill",
    run: async () => {
      const box = await Sandbox.create({ metadata: { suite: "pandastack" }, ttlSeconds: 300 });
      try {
        assert.equal(box.status, "running");
        assert.equal(box.info.metadata?.["suite"], "pandastack");
        assert.equal((await Sandbox.get(box.id)).id, box.id);
        assert.ok((await Sandbox.list()).some(({ id }) => id === box.id));
      } finally {
        await box.kill();
      }
      await box.kill(); // twice is fine
    },
  },
  {
    name: "Sandbox[Symbol.asyncDispose] ends it",
    run: async ({ client }) => {
      const box = await client.sandboxes.create({});
      await box[Symbol.asyncDispose]();
      assert.ok(!(await client.sandboxes.list()).some(({ id }) => id === box.id));
    },
  },
  {
    name: "pause and resume",
    run: ({ client }) =>
      own(client, async (box) => {
        await box.pause();
        assert.equal((await client.sandboxes.get(box.id)).status, "paused");
        await box.resume();
        assert.equal((await box.exec("echo again")).stdout, "again\n");
      }),
  },
  {
    name: "hibernate and wake, and a call that wakes by itself",
    run: ({ client }) =>
      own(client, async (box) => {
        await box.exec("echo kept > /tmp/kept");
        await box.hibernate();
        assert.equal((await client.sandboxes.get(box.id)).status, "hibernated");
        await box.wake();
        assert.equal((await client.sandboxes.get(box.id)).status, "running");
        await box.hibernate();
        assert.equal((await box.exec("cat /tmp/kept")).stdout, "kept\n");
      }),
  },
  {
    name: "setTtl, setPersistent and lifecycle",
    run: ({ client }) =>
      own(client, async (box) => {
        await box.setTtl(1234);
        const first = await box.lifecycle();
        assert.ok(Math.abs(Number(first.ttl_seconds) - 1234) < 60);
        await box.setPersistent(true);
        assert.equal((await box.lifecycle()).persistent, true);
        await box.setPersistent(false);
        assert.equal((await box.lifecycle()).persistent, false);
      }),
  },
  {
    name: "previewUrl and previewUrls",
    run: async ({ shared }) => {
      assert.match(shared.previewUrl(3000), new RegExp(`^https:/{2}3000-${shared.id}\\.`));
      assert.equal(typeof (await shared.previewUrls()), "object");
    },
  },
  {
    name: "errors: a wrong key, an unknown sandbox, bad input",
    run: async ({ client }) => {
      const stranger = new Client({ apiUrl: client.apiUrl, apiKey: "wrn_not_a_key" });
      await assert.rejects(() => stranger.sandboxes.list(), AuthError);
      await assert.rejects(() => client.sandboxes.get("sb_2222222222222222"), NotFoundError);
      await assert.rejects(() => client.sandboxes.create({ template: "no-such-template" }), BadRequestError);
      await assert.rejects(() => client.sandboxes.create({ ttlSeconds: -1 }), /ttl_seconds/);
    },
  },
];

const exec: readonly Case[] = [
  {
    name: "exec: output, exit code, check",
    run: async ({ shared }) => {
      const result = await shared.exec("echo out; echo err >&2; exit 3");
      assert.equal(result.stdout, "out\n");
      assert.equal(result.stderr, "err\n");
      assert.equal(result.exitCode, 3);
      await assert.rejects(() => shared.exec("exit 4", { check: true }), CommandError);
      assert.equal((await shared.commands.run("echo run")).stdout, "run\n");
    },
  },
  {
    name: "exec: a timeout is SandboxTimeout",
    run: async ({ shared }) => {
      await assert.rejects(() => shared.exec("sleep 30", { timeoutSeconds: 1 }), SandboxTimeout);
    },
  },
  {
    name: "execStream: output as it comes, exit code, timeout",
    run: async ({ shared }) => {
      const seen = { out: "", err: "" };
      const code = await shared.execStream("printf 'a\\nü\\n'; echo b >&2; exit 7", {
        onStdout: (text: string) => {
          seen.out += text;
        },
        onStderr: (text: string) => {
          seen.err += text;
        },
      });
      assert.equal(code, 7);
      assert.deepEqual(seen, { out: "a\nü\n", err: "b\n" });
      await assert.rejects(() => shared.execStream("sleep 30", { timeoutSeconds: 1 }), SandboxTimeout);
    },
  },
  {
    name: "runCode: shell",
    run: async ({ shared }) => {
      assert.equal((await shared.runCode("echo $((6 * 7))")).stdout, "42\n");
    },
  },
  {
    name: "runCode: python",
    needs: "python",
    run: async ({ client, python }) =>
      own(client, async (box) => assert.equal((await box.runCode("print(6 * 7)", "python")).stdout, "42\n"), {
        template: python,
      }),
  },
  {
    name: "code contexts: variables, results, errors, a timeout, close",
    needs: "python",
    run: async ({ client, python }) =>
      own(
        client,
        async (box) => {
          const context = await box.createCodeContext();
          await context.runCode("x = 20");
          const result = await context.runCode("print('hi')\nx + 22");
          assert.equal(result.text, "42");
          assert.equal(result.stdout, "hi\n");
          assert.match((await context.runCode("1 / 0")).error ?? "", /ZeroDivisionError/);
          await assert.rejects(
            () => context.runCode("import time; time.sleep(30)", { timeoutSeconds: 1 }),
            SandboxTimeout,
          );
          assert.equal((await context.runCode("x")).text, "20");
          await context.close();
        },
        { template: python },
      ),
  },
  {
    name: "logs: what was printed, at once and followed",
    run: ({ client }) =>
      own(client, async (box) => {
        await box.exec("echo first line; echo second line");
        const all = await lines(box.logs());
        assert.ok(all.includes("first line") && all.includes("second line"), all.join("|"));
        for await (const line of box.logs({ follow: true })) {
          assert.equal(line, "first line");
          break;
        }
      }),
  },
];

const files: readonly Case[] = [
  {
    name: "filesystem: write, read, list, stat, exists, walk",
    run: async ({ shared }) => {
      const { filesystem } = shared;
      await filesystem.write("/tmp/panda/a/one.txt", "ünö");
      await filesystem.write("/tmp/panda/two.bin", new Uint8Array([0, 255, 10]));
      assert.equal(await filesystem.read("/tmp/panda/a/one.txt"), "ünö");
      const listed = await filesystem.list("/tmp/panda");
      assert.deepEqual(listed.map(({ name, is_dir }) => `${name}:${is_dir}`).sort(), ["a:true", "two.bin:false"]);
      const stat = await filesystem.stat("/tmp/panda/two.bin");
      assert.equal(stat.size, 3);
      assert.equal(typeof stat.mode, "string");
      assert.ok(Math.abs(stat.mtime - Date.now() / 1000) < 600);
      assert.equal(await filesystem.exists("/tmp/panda/two.bin"), true);
      assert.equal(await filesystem.exists("/tmp/panda/none"), false);
      await assert.rejects(() => filesystem.read("/tmp/panda/none"), NotFoundError);
      const walked: string[] = [];
      for await (const { dir } of filesystem.walk("/tmp/panda")) walked.push(dir);
      assert.deepEqual(walked, ["/tmp/panda", "/tmp/panda/a"]);
    },
  },
  {
    name: "filesystem: upload and download",
    run: async ({ shared }) => {
      const dir = mkdtempSync(join(tmpdir(), "pandastack-"));
      try {
        const text = "line\n".repeat(50_000);
        writeFileSync(join(dir, "up"), text);
        await shared.filesystem.upload(join(dir, "up"), "/tmp/uploaded");
        await shared.filesystem.download("/tmp/uploaded", join(dir, "down"));
        assert.equal(readFileSync(join(dir, "down"), "utf8"), text);
      } finally {
        rmSync(dir, { recursive: true });
      }
    },
  },
];

const kept: readonly Case[] = [
  {
    name: "snapshot, restore from it, and snapshots list, get, delete",
    needs: "vm",
    run: ({ client }) =>
      own(client, async (box) => {
        await box.exec("echo kept > /tmp/kept");
        const snapshot = await box.snapshot();
        const { id } = snapshot as { id: string };
        await own(client, async (restored) => assert.equal((await restored.exec("cat /tmp/kept")).stdout, "kept\n"), {
          fromSnapshot: id,
        });
        assert.ok((await client.snapshots.list()).some((each) => each.id === id));
        assert.ok((await client.snapshots.list({ sandbox_id: box.id })).some((each) => each.id === id));
        assert.equal((await client.snapshots.get(id)).id, id);
        await client.snapshots.delete(id);
        await assert.rejects(() => client.snapshots.get(id), NotFoundError);
      }),
  },
  {
    name: "fork: a child with the memory and the disk of its parent, which goes on",
    needs: "vm",
    run: ({ client }) =>
      own(client, async (box) => {
        await box.exec("echo before > /tmp/state");
        const child = await box.fork({ metadata: { role: "child" } });
        try {
          await box.exec("echo after > /tmp/state");
          assert.equal((await child.exec("cat /tmp/state")).stdout, "before\n");
          assert.equal(child.info.metadata?.["role"], "child");
        } finally {
          await child.kill();
        }
      }),
  },
  {
    name: "forkTree and promote",
    needs: "vm",
    run: ({ client }) =>
      own(client, async (box) => {
        const children = await box.forkTree({ count: 2 });
        const [winner, loser] = children;
        assert.ok(winner !== undefined && loser !== undefined);
        try {
          const promoted = await winner.promote({ cleanupSiblings: true });
          assert.equal(promoted.winner, winner.id);
          assert.deepEqual(promoted.deleted, [loser.id]);
        } finally {
          await winner.kill();
        }
      }),
  },
  {
    name: "explore: the best of several, the losers gone",
    needs: "vm",
    run: ({ client }) =>
      own(client, async (box) => {
        const { winner, winnerOutcome, reaped } = await box.explore(["echo 1", "echo 22; exit 0", "exit 1"], {
          scoreFn: (_: unknown, outcome: { stdoutTail: string }) => outcome.stdoutTail.length,
          captureFiles: false,
        });
        assert.equal(winnerOutcome?.stdoutTail, "22\n");
        assert.equal(reaped.length, 2);
        await winner?.kill();
        await assert.rejects(() => box.explore(["exit 1"], { captureFiles: false }), ExploreError);
      }),
  },
  {
    name: "volumes: create, list, get, attached at create, delete",
    run: async ({ client }) => {
      const name = `panda-${Date.now()}`;
      await client.volumes.create({ name, size_mb: 32 });
      try {
        assert.ok((await client.volumes.list()).some((each) => each.name === name));
        assert.equal((await client.volumes.get(name)).size_mb, 32);
        await own(
          client,
          async (box) => {
            await box.exec(`echo on disk > /volumes/${name}/file`);
            await assert.rejects(() => client.volumes.delete(name), BadRequestError);
          },
          { volumes: [{ name }] },
        );
      } finally {
        await client.volumes.delete(name);
      }
      await assert.rejects(() => client.volumes.get(name), NotFoundError);
    },
  },
];

const account: readonly Case[] = [
  {
    name: "templates: list and get",
    run: async ({ client }) => {
      const all = await client.templates.list();
      assert.ok(all.some(({ name }) => name === "base"));
      assert.equal((await client.templates.get("base")).name, "base");
      await assert.rejects(() => client.templates.get("none"), NotFoundError);
    },
  },
  {
    name: "tokens: create, used, list, revoke at once; me",
    run: async ({ client }) => {
      assert.ok(await client.me());
      const made = (await client.tokens.create("suite")) as { token: string; prefix: string };
      const other = new Client({ apiUrl: client.apiUrl, apiKey: made.token });
      assert.ok(await other.me());
      assert.ok((await client.tokens.list()).some(({ prefix }) => prefix === made.prefix));
      await client.tokens.revoke(made.prefix);
      await assert.rejects(() => other.me(), AuthError);
    },
  },
];

export const CASES: readonly Case[] = [...life, ...exec, ...files, ...kept, ...account];
