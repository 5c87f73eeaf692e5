/** `warren volumes` and `create --volume` over an engine of fakes. */
import { beforeEach, describe, expect, test } from "bun:test";
import type { SandboxHost } from "../../src/contract/routes.ts";
import { World } from "../harness/fakes.ts";
import { FakeIo } from "./fake-io.ts";

let host: SandboxHost;
beforeEach(() => {
  host = new World().engine().as("me");
});

async function warren(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const opened = { host, moves: () => () => undefined, cores: 2, memoryMib: () => null };
  const io = new FakeIo({
    ground: { open: async () => ({ ...opened, [Symbol.asyncDispose]: async () => undefined }) },
  });
  const code = await io.run(...args);
  return { code, out: io.text("out"), err: io.text("err") };
}

describe("warren volumes", () => {
  test("warren volumes makes, lists, enlarges and deletes", async () => {
    expect(await warren("volumes", "create", "data", "--size", "2g")).toEqual({ code: 0, out: "data\n", err: "" });
    expect(JSON.parse((await warren("volumes", "create", "more", "--size", "64", "--json")).out)).toMatchObject({
      ...{ name: "more", sizeMb: 64, attachedTo: [] },
    });
    const { out } = await warren("volumes", "ls");
    expect(out).toMatch(/^NAME +SIZE +USED +CREATED +ATTACHED TO\n/);
    expect(out).toMatch(/\ndata +2\S* ?GiB .* -\n/);
    expect((await warren("volumes", "resize", "data", "--size", "3g")).code).toBe(0);
    expect(JSON.parse((await warren("volumes", "ls", "--json")).out)).toMatchObject([
      { name: "data", sizeMb: 3072 },
      { name: "more", sizeMb: 64 },
    ]);
    expect(await warren("volumes", "rm", "data", "more")).toEqual({ code: 0, out: "data\nmore\n", err: "" });
    expect(await host.volumes({})).toEqual([]);
  });

  test("warren create --volume attaches, and ls says to whom", async () => {
    await warren("volumes", "create", "data", "--size", "64");
    await warren("volumes", "create", "models", "--size", "64");
    const { code, out } = await warren("create", "--volume", "data:/workspace", "--volume", "models:ro");
    expect(code).toBe(0);
    const id = out.trim();
    expect((await host.get({ id })).volumes).toEqual([
      { name: "data", mount: "/workspace", readOnly: false },
      { name: "models", mount: "/volumes/models", readOnly: true },
    ]);
    expect((await warren("volumes", "ls")).out).toContain(id);
    const refused = await warren("volumes", "rm", "data");
    expect(refused.code).toBe(69);
    expect(refused.err).toContain("in use");
    expect((await warren("create", "--volume", "data:/elsewhere")).code).toBe(69);
    await host.close({ id });
  });

  test("warren volumes ends with 2 for a mistake in the call, and says what is allowed", async () => {
    const wrong: [string[], string][] = [
      [["volumes", "create", "data"], "--size"],
      [["volumes", "create", "data", "--size", "1"], "16 to"],
      [["volumes", "create", "data", "--size", "much"], "512 or 10g"],
      [["volumes", "create", "../data", "--size", "64"], "name: got"],
      [["volumes", "rm", "nope"], "there is no volume nope"],
      [["volumes", "rm"], "missing required argument"],
      [["create", "--volume", "data:workspace"], "NAME:/PATH"],
      [["create", "--volume", "nope:/x"], "there is no volume nope"],
      [["create", "--volume", "Data"], "NAME:/PATH"],
    ];
    for (const [args, says] of wrong) {
      const { code, err } = await warren(...args);
      expect([args.join(" "), code]).toEqual([args.join(" "), 2]);
      expect(err).toContain(says);
    }
  });

  test("warren volumes --help has examples", async () => {
    expect((await warren("volumes", "--help")).out).toContain("Examples:\n  $ warren volumes create");
  });
});
