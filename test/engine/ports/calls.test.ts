/** Connections to ports over fakes: they are use, they end with what they stand on, and they keep a program alive that waits for them. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import type { Engine } from "../../../src/engine/engine.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { FakeClock } from "../../harness/clock.ts";
import { World } from "../../harness/fakes.ts";
import { fails } from "../../suites/sandbox/subject.ts";

interface Scene {
  readonly time: FakeClock;
  readonly world: World;
  readonly engine: Engine;
  readonly host: SandboxHost;
}

async function scene(job: (scene: Scene) => Promise<void>): Promise<void> {
  const time = new FakeClock();
  const world = new World(time);
  const engine = world.engine();
  await job({ time, world, engine, host: engine.as("local") });
  await world.end(engine);
  world.expectNothingLeft();
  expect([...world.host.openFiles]).toEqual([]);
}

const IDLE = { idleSeconds: 60, idleAction: "hibernate" } as const;

/** A sandbox in which an echo server listens on port 80. */
async function serving(host: SandboxHost, input: Parameters<SandboxHost["create"]>[0] = {}): Promise<Sandbox> {
  const sandbox = await Sandbox.create(input, host);
  await sandbox.spawn("echo-server 80");
  while ((await sandbox.ports()).length === 0) await Promise.resolve();
  return sandbox;
}

test("A connection is use for as long as it stands, whether or not a byte travels", async () => {
  for (const end of ["close", "cancel", "its own end", "abort"] as const) {
    await scene(async ({ time, host }) => {
      const sandbox = await serving(host, IDLE);
      const abort = new AbortController();
      const connection = await sandbox.connect(80, { signal: abort.signal });
      const state = async () => (await sandbox.info()).state;
      await time.advance(3_600_000);
      expect([end, await state()]).toEqual([end, "running"]);
      if (end === "close") connection.close();
      else if (end === "cancel") await connection.readable.cancel();
      else if (end === "abort") {
        const reading = connection.readable.getReader().read();
        abort.abort();
        await expect(reading).rejects.toThrow();
      } else {
        await connection.writable.close();
        expect(await new Response(connection.readable).text()).toBe("");
      }
      await time.advance(59_000);
      expect(await state()).toBe("running");
      await time.advance(1_000);
      expect([end, await state()]).toEqual([end, "hibernated"]);
    });
  }
});

test("A call that is refused is use no longer than it takes", async () => {
  await scene(async ({ time, host }) => {
    const sandbox = await serving(host, IDLE);
    await fails("wrong_state", sandbox.connect(81));
    await fails("invalid_request", sandbox.connect(1.5));
    await time.advance(60_000);
    expect((await sandbox.info()).state).toBe("hibernated");
  });
});

test("A connection ends with its sandbox, and says why", async () => {
  await scene(async ({ host, world }) => {
    const closed = await serving(host);
    const reading = (await closed.connect(80)).readable.getReader().read();
    const ended = fails("sandbox_lost", reading);
    await closed.close();
    expect((await ended).message).toContain(`sandbox ${closed.id} ended during the call: closed`);
    await fails("wrong_state", closed.connect(80));
    await fails("not_found", new Sandbox(host, "sb_none").ports());
    expect(world.errors).toEqual([]);
  });
});

test("A program goes on while it reads a connection, and ends when it does not", async () => {
  const at = (path: string) => JSON.stringify(join(import.meta.dir, "../../..", path));
  const code = (body: string) => `
    import { World } from ${at("test/harness/fakes.ts")};
    import { Sandbox } from ${at("src/sandbox.ts")};
    import { systemClock } from ${at("src/base/clock.ts")};
    const box = await Sandbox.create({}, new World().engine().as("local"));
    await box.spawn("echo-server 80");
    while ((await box.ports()).length === 0) await Promise.resolve();
    const connection = await box.connect(80);
    ${body}
    console.log("end");
  `;
  const run = async (body: string): Promise<string> => {
    const process = Bun.spawn(["bun", "-e", code(body)], { stdout: "pipe", stderr: "inherit" });
    return `${(await new Response(process.stdout).text()).trim()} ${await process.exited}`;
  };
  expect(await run("")).toBe("end 0");
  const reads = `
    const reader = connection.readable.getReader();
    const write = () => void connection.writable.getWriter().write(new TextEncoder().encode("late"));
    systemClock.after(300, write, { background: true });
    console.log(new TextDecoder().decode((await reader.read()).value));
  `;
  expect(await run(reads)).toBe("late\nend 0");
});
