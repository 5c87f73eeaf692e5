/** Ports of real guests where the suite cannot go: from another process, without any network, many connections at once. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Warren } from "../../src/compose.ts";
import { Sandbox } from "../../src/sandbox.ts";
import { MAIN } from "../harness/cli.ts";
import { gate } from "../harness/gates.ts";
import { guardLeaks } from "../harness/leak-guard.ts";
import { until } from "../harness/until.ts";
import { openTestWarren, TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../harness/vm.ts";
import { ECHO, SERVER } from "../suites/sandbox/ports-programs.ts";

/** Python takes 20 s to start in an emulated guest of a busy machine. */
const START_MS = 100_000;

async function serve(sandbox: Sandbox, port: number, source: string): Promise<void> {
  await sandbox.spawn(["python3", "-c", source, String(port)]);
  await until(
    `port ${port} is listened on`,
    async () => (await sandbox.ports()).some((info) => info.port === port),
    START_MS,
  );
}

interface Forwarding {
  readonly hostPort: number;
  /** Ctrl-C; the exit code and what it complained of. */
  stop(): Promise<{ readonly code: number; readonly err: string }>;
}

/** `warren port-forward` as a process of its own. */
async function forwarding(id: string, port: number): Promise<Forwarding> {
  const child = Bun.spawn([process.execPath, MAIN, "port-forward", "--json", id, `0:${port}`], {
    env: { ...process.env, WARREN_HOME: TEST_HOME },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const err = new Response(child.stderr).text();
  let out = "";
  for await (const chunk of child.stdout) {
    out += new TextDecoder().decode(chunk);
    if (out.endsWith("\n")) break;
  }
  if (out === "") throw new Error(`port-forward ended: ${await err}`);
  const { forwards } = JSON.parse(out) as { forwards: { hostPort: number }[] };
  return {
    hostPort: forwards[0]?.hostPort ?? 0,
    stop: async () => {
      child.kill("SIGINT");
      return { code: await child.exited, err: await err };
    },
  };
}

if (gate("vm")) {
  guardLeaks("base");

  describe("Ports of real guests", () => {
    let warren: Warren;
    beforeAll(async () => {
      warren = await openTestWarren({ prepared: 0 });
    }, VM_BAKE_MS);
    afterAll(async () => await warren[Symbol.asyncDispose]());

    test(
      "Ports of a detached sandbox are reached by the command line of another process, without any egress",
      async () => {
        const none = { mode: "none" } as const;
        await using sandbox = await Sandbox.create({ detached: true, egress: none }, warren.sandboxes);
        await serve(sandbox, 8000, SERVER);
        const { hostPort, stop } = await forwarding(sandbox.id, 8000);
        const hello = await fetch(`http://127.0.0.1:${hostPort}/hello`);
        expect(await hello.json()).toMatchObject({ path: "/hello" });
        // Its own handle meanwhile, over another of the guest's ports.
        expect((await sandbox.fetch(8000, "/missing")).status).toBe(404);
        expect(await stop()).toEqual({ code: 0, err: "" });
        expect((await sandbox.fetch(8000, "/hello")).status).toBe(200);
      },
      VM_TEST_MS,
    );

    test(
      "Ports of a guest carry 200 connections at once, and those that nobody reads hold up no other",
      async () => {
        await using sandbox = await Sandbox.create({}, warren.sandboxes);
        await serve(sandbox, 7000, ECHO);
        await serve(sandbox, 8000, SERVER);
        const stalled = await Promise.all(
          Array.from({ length: 8 }, () => sandbox.fetch(8000, `/bytes?${16 * 1024 * 1024}`)),
        );
        const connections = await Promise.all(Array.from({ length: 200 }, () => sandbox.connect(7000)));
        const heard = await Promise.all(
          connections.map(async ({ readable, writable }, i) => {
            const writer = writable.getWriter();
            await writer.write(new TextEncoder().encode(`connection ${i}`));
            await writer.close();
            return new Response(readable).text();
          }),
        );
        expect(heard).toEqual(connections.map((_, i) => `connection ${i}`));
        for (const response of stalled) await response.body?.cancel();
        expect((await sandbox.exec("echo alive")).stdout).toBe("alive\n");
      },
      VM_TEST_MS,
    );
  });
}
