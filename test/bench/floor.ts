/** The floor harness as a child process: compiled from test/harness/floor, asked for one run at a time so that it interleaves. */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Warren } from "../../src/compose.ts";
import { runOk } from "../../src/host/run.ts";

const SOURCE = join(import.meta.dir, "../harness/floor/floor.c");
const ARGV = join(import.meta.dir, "../golden/qemu-restore.argv");

export interface FloorRun {
  readonly ms: number;
  readonly more: readonly number[];
}

export interface Floor extends AsyncDisposable {
  /** One run: `restore`, `prepared`, or `pair N`. @throws when the harness failed, with its last words and QEMU's. */
  run(word: string): Promise<FloorRun>;
}

/** The newest published snapshot of this size. */
async function snapshotDir(warren: Warren, template: string): Promise<string> {
  const { cpu, memoryMib } = warren.templates.defaults(template);
  const dir = join(warren.host.data.dir, "templates", template);
  const found = (await readdir(dir)).filter((name) => name.startsWith(`${cpu}x${memoryMib}-`));
  if (found.length !== 1) throw new Error(`expected one snapshot of ${template}, found ${found.length}`);
  return join(dir, found[0]!);
}

export async function openFloor(warren: Warren, template: string): Promise<Floor> {
  const work = await mkdtemp(join(warren.host.data.dir, "floor-"));
  const program = join(work, "floor");
  await runOk(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", SOURCE, "-o", program], { deadlineMs: 60_000 });
  const vmmData = (await readdir(warren.host.data.dir)).find((name) => /^vmm-[0-9a-f]+$/.test(name));
  if (vmmData === undefined) throw new Error("no VMM root: bake a template first");
  const firmware = join(warren.host.data.dir, vmmData, "data");
  const child = Bun.spawn([program, ARGV, await snapshotDir(warren, template), firmware, work], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
  });
  // QEMU prints "Failed to fallocate" for stretches of guest memory all along: of use only where a run has failed.
  const said = lastWords(child.stderr);
  const lines = linesOf(child.stdout);
  return {
    async run(word) {
      child.stdin.write(`${word}\n`);
      await child.stdin.flush();
      const { value, done } = await lines.next();
      if (done === true) throw new Error(`the floor harness ended with ${await child.exited}:\n${await said}`);
      return JSON.parse(value) as FloorRun;
    },
    async [Symbol.asyncDispose]() {
      await child.stdin.end();
      await child.exited;
      await rm(work, { recursive: true, force: true });
    },
  };
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let held = "";
  for await (const chunk of stream) {
    const parts = (held + decoder.decode(chunk, { stream: true })).split("\n");
    held = parts.pop() ?? "";
    yield* parts;
  }
}

const LAST_WORDS = 4096;

/** The end of what a stream said, once it has ended. */
async function lastWords(stream: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let end = "";
  for await (const chunk of stream) end = (end + decoder.decode(chunk, { stream: true })).slice(-LAST_WORDS);
  return end;
}
