/** What keeps a process alive, and what does not: by real processes, since only the runtime itself can tell. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Hold } from "../../src/engine/hold.ts";
import { FakeClock } from "../harness/clock.ts";

const HARNESS = join(import.meta.dir, "../harness/fakes.ts");
const SANDBOX = join(import.meta.dir, "../../src/sandbox.ts");

/** Runs a program with a sandbox `box` of an engine with a pool; gives what it wrote and its exit code. */
async function run(body: string): Promise<string> {
  const code = `
    import { World } from ${JSON.stringify(HARNESS)};
    import { Sandbox } from ${JSON.stringify(SANDBOX)};
    const engine = new World().engine({ prepared: 2, ready: 1 });
    const box = await Sandbox.create({}, engine.as("local"));
    await engine.prepare();
    ${body}
    console.log("end");
  `;
  const process = Bun.spawn(["bun", "-e", code], { stdout: "pipe", stderr: "inherit" });
  const text = await new Response(process.stdout).text();
  return `${text.trim()} ${await process.exited}`;
}

test("A program with an idle sandbox and a filled pool ends when it has nothing left to do", async () => {
  expect(await run("")).toBe("end 0");
  expect(await run(`const left = await box.stream("sleep 1000");`)).toBe("end 0");
});

test("A program goes on while it waits for a command, however long that says nothing", async () => {
  const waits = `const p = await box.spawn("sleep 0.4; echo done"); console.log((await p.wait()).stdout.trim());`;
  expect(await run(waits)).toBe("done\nend 0");
});

test("Hold keeps one timer while anything is under way, also when it fails", async () => {
  const clock = new FakeClock();
  const hold = new Hold(clock);
  const gate = Promise.withResolvers<number>();
  const one = hold.during(() => gate.promise);
  const two = hold.during(() => Promise.reject(new Error("no")));
  expect(clock.waiting).toBe(1);
  await expect(two).rejects.toThrow("no");
  expect(clock.waiting).toBe(1);
  await clock.advance(2 ** 31);
  expect(clock.waiting).toBe(1);
  gate.resolve(7);
  expect(await one).toBe(7);
  expect(clock.waiting).toBe(0);
});
