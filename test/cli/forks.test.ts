/** `warren fork`, `pause`, `resume`, `hibernate` and `wake` over fakes of one machine; each command is another process of it. */
import { beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EXIT_BY_FAULT } from "../../src/cli/exits.ts";
import type { ForkResult } from "../../src/contract/routes/forks.ts";
import type { SandboxInfo } from "../../src/contract/routes/sandboxes.ts";
import { ERRORS, WarrenError } from "../../src/errors.ts";
import { StubHost } from "../batch/stub-host.ts";
import { World } from "../harness/fakes.ts";
import { FakeIo } from "./fake-io.ts";

const FOUR = { pause: "paused", resume: "resumed", hibernate: "hibernated", wake: "woken" } as const;
const VERBS = Object.keys(FOUR) as (keyof typeof FOUR)[];

let world: World;
beforeEach(() => {
  world = new World();
});

async function warren(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const open = async () => {
    const engine = world.engine();
    return {
      host: engine.as("local"),
      moves: () => () => undefined,
      cores: 2,
      memoryMib: () => null,
      [Symbol.asyncDispose]: () => world.end(engine),
    };
  };
  const io = new FakeIo({ ground: { open } });
  const code = await io.run(...args);
  return { code, out: io.text("out"), err: io.text("err") };
}

async function made(...args: string[]): Promise<string> {
  return (await warren("create", ...args)).out.trim();
}

async function listed(...args: string[]): Promise<SandboxInfo[]> {
  return JSON.parse((await warren("ls", "--json", ...args)).out) as SandboxInfo[];
}

async function stateOf(id: string): Promise<string | undefined> {
  return (await listed()).find((info) => info.id === id)?.state;
}

/** Nothing is left when all of them are ended. */
async function expectNothingLeft(): Promise<void> {
  expect((await warren("rm", "--all")).code).toBe(0);
  expect(await listed()).toEqual([]);
  world.expectNothingLeft({ reclaimed: world.host.reclaimed }); // whoever made it had ended
  expect([...world.host.openFiles]).toEqual([]);
  expect(await world.snapshots.listImages("local")).toEqual([]);
}

describe("warren fork", () => {
  test("warren fork prints the children, which live on and name their parent", async () => {
    const id = await made("--metadata", "who=me", "--ttl", "10m");
    const { code, out, err } = await warren("fork", id, "-n", "3");
    expect(code).toBe(0);
    const ids = out.trim().split("\n");
    expect(ids).toHaveLength(3);
    expect(err).toMatch(/^warren: the parent stood still for .+; it shares .+ of changed memory with them\n$/);
    const children = (await listed()).filter(({ parentId }) => parentId === id);
    expect(children.map((child) => child.id).sort()).toEqual(ids.sort());
    for (const { state, detached, metadata } of children)
      expect([state, detached, metadata]).toEqual(["running", true, { who: "me" }]);
    expect((await warren("exec", ids[0]!, "echo child")).out).toBe("child\n");
    expect((await warren("fork", ids[0]!)).out.trim().split("\n")).toHaveLength(1);
    await expectNothingLeft();
  });

  test("warren fork --json tells the pause and what is shared; --ttl ends the children sooner", async () => {
    const id = await made("--ttl", "1h");
    const { out, err } = await warren("fork", id, "--ttl", "90s", "--json");
    const result = JSON.parse(out) as ForkResult;
    expect(err).toBe("");
    expect(Object.keys(result).sort()).toEqual(["changedBytes", "children", "parentId", "pauseMs"]);
    expect(result.parentId).toBe(id);
    const [child] = result.children;
    expect(Date.parse(child?.expiresAt ?? "") - Date.parse(child?.createdAt ?? "")).toBe(90_000);
    const longer = await warren("fork", id, "--ttl", "2h");
    expect(longer.code).toBe(2);
    expect(longer.err).toContain("a child lives no longer than its parent");
    await expectNothingLeft();
  });

  test("warren fork makes all or none, and the parent goes on", async () => {
    const id = await made();
    let loads = 0;
    world.driver.hooks = {
      vmm: (step) => {
        if (step !== "load") return;
        loads += 1;
        if (loads === 2) throw new WarrenError("driver_failed", "no \x1b[31mload");
      },
    };
    const { code, out, err } = await warren("fork", id, "-n", "3");
    world.driver.hooks = {};
    expect([code, out]).toEqual([EXIT_BY_FAULT.ours, ""]);
    expect(err).toContain("no \\x1b[31mload");
    expect((await listed()).map((info) => [info.id, info.state])).toEqual([[id, "running"]]);
    await expectNothingLeft();
  });
});

describe("warren pause, resume, hibernate, wake", () => {
  test("warren pause and resume: ls shows it, exec says what to do", async () => {
    const id = await made();
    expect(await warren("pause", id)).toEqual({ code: 0, out: `${id}\n`, err: "" });
    expect((await warren("ls")).out).toMatch(new RegExp(`\n${id} .* paused `));
    expect((await warren("ls", "-q", "--state", "paused")).out).toBe(`${id}\n`);
    expect((await warren("ls", "-q", "--state", "running")).out).toBe("");
    const refused = await warren("exec", id, "echo no");
    expect([refused.code, refused.out]).toEqual([69, ""]);
    expect(refused.err).toContain(`sandbox ${id} is paused: resume it first\n  let it go on with \`warren resume\`\n`);
    expect((await warren("fork", id)).code).toBe(0);
    expect(await stateOf(id)).toBe("paused");
    expect(await warren("resume", id)).toEqual({ code: 0, out: `${id}\n`, err: "" });
    expect((await warren("exec", id, "echo yes")).out).toBe("yes\n");
    await expectNothingLeft();
  });

  test("warren hibernate leaves no machine, ls shows it, wake brings it back", async () => {
    const id = await made("--metadata", "who=me");
    expect(await warren("hibernate", id)).toEqual({ code: 0, out: `${id}\n`, err: "" });
    expect([...world.driver.machines.keys()]).toEqual([]);
    expect((await warren("ls")).out).toMatch(new RegExp(`\n${id} .* hibernated .* who=me\n`));
    expect((await warren("ls", "-q", "--state", "hibernated")).out).toBe(`${id}\n`);
    expect(await warren("wake", id)).toEqual({ code: 0, out: `${id}\n`, err: "" });
    expect(await stateOf(id)).toBe("running");
    await expectNothingLeft();
  });

  test("warren exec, cp and fork each wake what hibernates, and it goes on when they are done", async () => {
    const dir = mkdtempSync(join(tmpdir(), "warren-cli-"));
    const id = await made();
    const asleep = async (job: () => Promise<void>) => {
      expect((await warren("hibernate", id)).code).toBe(0);
      await job();
      expect(await stateOf(id)).toBe("running");
      expect((await warren("exec", id, "echo on")).out).toBe("on\n");
    };
    await asleep(async () => expect(await warren("exec", id, "echo hi")).toMatchObject({ code: 0, out: "hi\n" }));
    writeFileSync(join(dir, "in"), "content");
    await asleep(async () => {
      expect(await warren("cp", join(dir, "in"), `${id}:/work/in`)).toMatchObject({ code: 0, err: "" });
    });
    await asleep(async () => expect((await warren("fork", id)).code).toBe(0));
    rmSync(dir, { recursive: true });
    await expectNothingLeft();
  });

  test("doing it twice is no error and changes nothing; a hibernated one can be paused", async () => {
    const id = await made();
    for (const [verb, state] of [
      ["resume", "running"],
      ["wake", "running"],
      ["pause", "paused"],
      ["pause", "paused"],
      ["wake", "paused"],
      ["hibernate", "hibernated"],
      ["hibernate", "hibernated"],
      ["pause", "paused"],
      ["resume", "running"],
    ] as const) {
      expect([verb, (await warren(verb, id)).code, await stateOf(id)]).toEqual([verb, 0, state]);
    }
    await expectNothingLeft();
  });

  test("each of several has its turn, and the first failure decides the exit code", async () => {
    const ids = [await made(), await made()];
    for (const verb of VERBS) {
      const { code, out, err } = await warren(verb, ids[0]!, "sb_none\x1b", ids[1]!);
      expect([verb, code, out]).toEqual([verb, 2, `${ids.join("\n")}\n`]);
      expect(err).toContain("there is no sandbox sb_none\\x1b");
      const json = await warren(verb, "--json", ...ids, "sb_none");
      expect([json.code, JSON.parse(json.out)]).toEqual([2, { [FOUR[verb]]: ids }]);
    }
    await expectNothingLeft();
  });

  test("a hibernation that finds no room leaves the sandbox as it was, a wake that fails leaves it asleep", async () => {
    const [one, two] = [await made(), await made()];
    world.snapshots.saving = () => {
      throw new WarrenError("storage_exhausted", "no room");
    };
    const full = await warren("hibernate", one, two);
    expect([full.code, full.out]).toEqual([EXIT_BY_FAULT.host, ""]);
    expect(full.err).toContain("no room\n  free some space where WARREN_HOME is");
    expect(await stateOf(one)).toBe("running");
    world.snapshots.saving = () => undefined;
    await warren("hibernate", one);
    world.driver.hooks = {
      vmm: (step) => {
        if (step === "load") throw new WarrenError("driver_failed", "no load");
      },
    };
    expect((await warren("wake", one)).code).toBe(EXIT_BY_FAULT.ours);
    expect((await warren("exec", one, "true")).code).toBe(EXIT_BY_FAULT.ours);
    world.driver.hooks = {};
    expect(await stateOf(one)).toBe("hibernated");
    expect((await warren("wake", one)).code).toBe(0);
    await expectNothingLeft();
  });

  test("Ctrl-C lets the one under way come to its end, leaves the rest alone and ends with 130", async () => {
    const stub = new StubHost();
    const done: string[] = [];
    const { host } = stub;
    const io = new FakeIo({
      ground: {
        open: async () => ({
          host: {
            ...host,
            hibernate: async ({ id }) => {
              io.interrupt();
              done.push(id);
            },
          },
          moves: () => () => undefined,
          cores: 2,
          memoryMib: () => null,
          [Symbol.asyncDispose]: async () => undefined,
        }),
      },
    });
    expect(await io.run("hibernate", "--json", "sb_1", "sb_2")).toBe(130);
    expect(done).toEqual(["sb_1"]);
    expect(JSON.parse(io.text("out"))).toEqual({ hibernated: ["sb_1"] });
    expect(io.text("err")).toBe("warren: stopped\n");
  });
});

describe("Verbs that fork and stand still", () => {
  test("end with 2 for a mistake in the call, and say what is allowed", async () => {
    const wrong: [string[], string][] = [
      [["fork"], "missing required argument 'sandbox'"],
      [["fork", "sb_1", "sb_2"], "too many arguments"],
      [["fork", "sb_1", "-n", "0"], "a whole number from 1 to 16"],
      [["fork", "sb_1", "-n", "17"], "a whole number from 1 to 16"],
      [["fork", "sb_1", "-n", "two"], "a whole number from 1 to 16"],
      [["fork", "sb_1", "--ttl", "soon"], "20, 90s, 5m or 2h"],
      [["fork", "sb_none\x1b[31m"], "there is no sandbox sb_none\\x1b[31m\n  see `warren ls`"],
      [["ls", "--state", "asleep"], "running, paused, hibernated"],
      ...VERBS.map((verb): [string[], string] => [[verb], "missing required argument 'sandboxes'"]),
      ...VERBS.map((verb): [string[], string] => [[verb, "sb_1", "--all"], "unknown option '--all'"]),
    ];
    for (const [args, says] of wrong) {
      const { code, out, err } = await warren(...args);
      expect([args.join(" "), code, out]).toEqual([args.join(" "), 2, ""]);
      expect(err).toContain(says);
      expect(err).not.toContain("\x1b");
    }
  });

  test("end with a code for each fault", async () => {
    for (const [code, { fault }] of Object.entries(ERRORS)) {
      const failing = async () => {
        throw new WarrenError(code as keyof typeof ERRORS, "it is so \x1b[31m");
      };
      const stub = new StubHost();
      const calls = { fork: failing, pause: failing, resume: failing, hibernate: failing, wake: failing };
      for (const verb of ["fork", ...VERBS]) {
        const open = async () => ({
          host: { ...stub.host, ...calls },
          moves: () => () => undefined,
          cores: 2,
          memoryMib: () => null,
          [Symbol.asyncDispose]: async () => undefined,
        });
        const io = new FakeIo({ ground: { open } });
        const expected = code === "cancelled" ? 130 : EXIT_BY_FAULT[fault];
        expect([verb, code, await io.run(verb, "sb_1")]).toEqual([verb, code, expected]);
        expect(io.text("err")).not.toContain("\x1b");
      }
    }
  });

  test("have help with examples, and shells complete them", async () => {
    for (const verb of ["fork", ...VERBS]) {
      const { code, out } = await warren(verb, "--help");
      expect(code).toBe(0);
      expect(out).toMatch(new RegExp(`\nExamples:\n  \\$ warren ${verb} `));
      expect((await warren("--help")).out).toContain(`\n  ${verb} `);
    }
    const { out } = await warren("completion", "bash");
    const complete = (line: string) => {
      const words = line.split(" ");
      const script = `${out}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}; _warren; printf '%s\\n' "\${COMPREPLY[@]}"`;
      return Bun.spawnSync(["bash", "-c", script]).stdout.toString().trim().split("\n");
    };
    expect(complete("warren hib")).toEqual(["hibernate"]);
    expect(complete("warren fork --co")).toEqual(["--count"]);
    expect(complete("warren wake --j")).toEqual(["--json"]);
  });
});
