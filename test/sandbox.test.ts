/** The behaviour suite over the engine and a guest in memory, and what the handle adds by itself. */
import { expect, test } from "bun:test";
import { collect } from "../src/sandbox/collect.ts";
import { setDefaultHost } from "../src/sandbox/default-host.ts";
import { Sandbox } from "../src/sandbox.ts";
import { World } from "./harness/fakes.ts";
import { fails } from "./suites/sandbox/subject.ts";
import { sandboxSuite } from "./suites/sandbox.ts";

const skips = {
  shell: "the fake guest knows a dozen commands",
  tar: "the fake guest has no tar",
  users: "the fake guest has no users",
  python: "the fake guest has no Python",
} as const;

for (const pool of [{}, { prepared: 2 }, { ready: 2 }]) {
  sandboxSuite(
    `Sandbox over the engine with fakes ${JSON.stringify(pool)}`,
    async () => {
      const world = new World();
      const engine = world.engine(pool);
      const close = async () => {
        await engine.close();
        world.expectNothingLeft();
      };
      return { host: engine.as("local"), close };
    },
    { skips },
  );
}

test("Sandbox without a host asks the default one, and says when there is none", async () => {
  await fails("unsupported", Sandbox.create());
  const world = new World();
  await using engine = world.engine();
  setDefaultHost(async () => engine.as("local"));
  try {
    await using box = await Sandbox.create();
    expect((await Sandbox.list()).map((info) => info.id)).toEqual([box.id]);
    expect((await Sandbox.connect(box.id)).id).toBe(box.id);
  } finally {
    setDefaultHost(null);
  }
});

test("collect bounds what it keeps, whatever the stream says", async () => {
  async function* endless() {
    for (let i = 0; i < 100; i++) yield { kind: "stdout", bytes: new Uint8Array(1000) } as const;
    const end = { exitCode: 0, signal: null, timedOut: false, stdoutTruncated: false, stderrTruncated: false };
    yield { kind: "exit", ...end, durationMs: 1 } as const;
  }
  const result = await collect(endless(), 2500);
  expect([result.stdoutBytes.length, result.truncated]).toEqual([2500, true]);
});

test("collect keeps a byte order mark, and fails when the exit never comes", async () => {
  async function* cut() {
    yield { kind: "stdout", bytes: new Uint8Array([0xef, 0xbb, 0xbf, 0x41]) } as const;
  }
  await fails("guest_protocol", collect(cut(), 100));
});
