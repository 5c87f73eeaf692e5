/** What clones of a pool for detached sandboxes may reach before they have a user, and what becomes of it when they get one. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { SandboxCreate } from "../../../src/contract/routes/sandboxes.ts";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import type { Engine } from "../../../src/engine/engine.ts";
import { World } from "../../harness/fakes.ts";

let world: World;
let engine: Engine;
let host: SandboxHost;

beforeEach(async () => {
  world = new World();
  world.host.networkDegraded = null;
  engine = world.engine({ prepared: 1, detachedPool: true });
  host = engine.as("local");
});

afterEach(async () => {
  await engine.close();
  world.expectNothingLeft();
});

/** Modes that were put in force for a sandbox, in their order, and how many of them before its guest ran. */
async function modesOf(input: SandboxCreate): Promise<{ id: string; modes: string[]; beforeRun: number }> {
  expect(await engine.prepare()).toBe(1);
  const modes = (id: string) => world.host.networks.get(id)?.applied.map(({ mode }) => mode) ?? [];
  let beforeRun = 0;
  world.driver.hooks = {
    vmm: (call, id) => {
      if (call === "resume") beforeRun = modes(id).length;
    },
  };
  const { id, createPath } = await host.create({ ...input, detached: true });
  world.driver.hooks = {};
  expect(createPath).toBe("prepared");
  return { id, modes: modes(id), beforeRun };
}

describe("A clone of a pool for detached sandboxes", () => {
  test("has the keeper's rules before it has a user, who needs no others", async () => {
    await engine.prepare();
    expect(world.keeper.size).toBe(1);
    const { id, modes, beforeRun } = await modesOf({});
    expect([modes, beforeRun]).toEqual([["open"], 1]);
    await host.close({ id });
  });

  test("has its user's own rules before its guest runs", async () => {
    const { id, modes, beforeRun } = await modesOf({ egress: { mode: "none" } });
    expect([modes, beforeRun]).toEqual([["open", "none"], 2]);
    expect((await host.get({ id })).egress).toEqual({ mode: "none" });
    await host.close({ id });
  });

  test("believes the certificate of its user's secrets", async () => {
    const secrets = [{ host: "api.example.com", header: "authorization", value: "Bearer hidden" }];
    const egress = { mode: "allowlist" as const, allow: ["*.example.com"] };
    const { id, modes, beforeRun } = await modesOf({ egress, secrets });
    expect([modes, beforeRun]).toEqual([["open", "allowlist"], 2]);
    expect((await host.network({ id })).secretHosts).toEqual(["api.example.com"]);
    let trusted = "";
    for await (const bytes of await host.readFile({ id, path: "/usr/local/share/ca-certificates/warren.crt" })) {
      trusted += new TextDecoder().decode(bytes);
    }
    expect(trusted).toContain("BEGIN CERTIFICATE");
    await host.close({ id });
  });

  test("has its names again before its create answers, though its keeper was killed while it waited", async () => {
    await engine.prepare();
    world.keeper.forget();
    expect(world.keeper.size).toBe(0);
    const { id } = await modesOf({});
    expect(world.keeper.size).toBe(1);
    await host.close({ id });
  });

  test("is not given to its user where no keeper takes it up", async () => {
    await engine.prepare();
    const { open } = world.keeper;
    world.keeper.open = () => Promise.reject(new Error("no keeper"));
    await expect(host.create({ detached: true })).rejects.toThrow("could not be started");
    world.keeper.open = open;
  });

  test("of a pool that ends with its maker is left to its maker", async () => {
    await engine.close();
    engine = world.engine({ prepared: 1 });
    await engine.prepare();
    expect(world.keeper.size).toBe(0);
  });
});
