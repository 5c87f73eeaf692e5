/**
 * A sandbox and the process that made it: detached, it outlives its maker, however that ended, and belongs to every process
 * of the home until it is closed or its time is over; otherwise it ends with its maker.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../../src/base/clock.ts";
import type { Warren } from "../../../src/compose.ts";
import type { SandboxInfo } from "../../../src/contract/routes/sandboxes.ts";
import type { VmRef } from "../../../src/driver/driver.ts";
import { startTicksOf } from "../../../src/host/slots/process-name.ts";
import { type CreateOptions, Sandbox } from "../../../src/sandbox.ts";
import { cli } from "../../harness/cli.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { expectNoLeaks, type Traces, traces } from "../../harness/leaks.ts";
import { until } from "../../harness/until.ts";
import { openTestWarren, TEST_HOME, VM_TEST_MS } from "../../harness/vm.ts";

interface Made {
  readonly maker: number;
  readonly info: SandboxInfo;
  readonly ref: VmRef;
}

/** Makes a sandbox in a process of its own, which is gone on return: by itself, or by SIGKILL. */
async function madeBy(ending: "exit" | "SIGKILL", options: CreateOptions): Promise<Made> {
  const mode = ending === "exit" ? "exit" : "hold";
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "maker.ts"), mode, JSON.stringify(options)], {
    env: { ...process.env, WARREN_HOME: TEST_HOME },
    stdout: "pipe",
    stderr: "inherit",
  });
  const reader = child.stdout.getReader();
  let line = "";
  while (!line.endsWith("\n")) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the maker ended without a word");
    line += new TextDecoder().decode(value);
  }
  if (ending === "SIGKILL") child.kill("SIGKILL");
  await child.exited;
  expect(child.signalCode).toBe(ending === "exit" ? null : "SIGKILL");
  await reader.cancel();
  return JSON.parse(line) as Made;
}

/** Of the very process that was named: a reused pid is another one. */
function isGone(ref: VmRef): boolean {
  return startTicksOf(ref.pid) !== ref.startTicks;
}

async function listed(): Promise<string[]> {
  const { code, out, err } = await cli(["ls", "--json"]);
  expect([code, err]).toEqual([0, ""]);
  return (JSON.parse(out) as SandboxInfo[]).map(({ id }) => id);
}

if (gate("vm")) {
  guardLeaks("base");
  describe("A sandbox whose maker is gone", () => {
    let before: Traces;
    let dir = "";
    let warren: Warren;
    beforeAll(async () => {
      dir = mkdtempSync(join(tmpdir(), "warren-detached-"));
      warren = await openTestWarren({ prepared: 0 });
    });
    afterAll(async () => {
      await warren[Symbol.asyncDispose]();
      rmSync(dir, { recursive: true });
    });
    beforeEach(() => {
      before = traces(TEST_HOME);
    });
    afterEach(() => expectNoLeaks(before, TEST_HOME));

    for (const ending of ["exit", "SIGKILL"] as const) {
      test(
        `by ${ending} is listed, used, copied to and from, and closed by other processes when it is detached`,
        async () => {
          const { info, ref, maker } = await madeBy(ending, { detached: true, ttlSeconds: 600 });
          expect(await listed()).toEqual([info.id]);
          const seen = await cli(["exec", info.id, "cat /work/mark; exit 3"]);
          expect(seen).toEqual({ code: 3, out: `made by ${maker}`, err: "" });

          const bytes = crypto.getRandomValues(new Uint8Array(60_000));
          writeFileSync(join(dir, "there"), bytes);
          expect((await cli(["cp", "there", `${info.id}:/work/there`], { cwd: dir })).code).toBe(0);
          expect((await cli(["cp", `${info.id}:/work/there`, "back"], { cwd: dir })).code).toBe(0);
          expect(readFileSync(join(dir, "back")).equals(bytes)).toBe(true);

          expect(isGone(ref)).toBe(false);
          expect(await cli(["rm", info.id])).toMatchObject({ code: 0, out: `${info.id}\n` });
          expect(isGone(ref)).toBe(true);
          expect(await listed()).toEqual([]);
          expect(await cli(["exec", info.id, "true"])).toMatchObject({ code: 2 });
        },
        VM_TEST_MS,
      );
    }

    test(
      "is there for a program of the same home too, while it is detached",
      async () => {
        const { info, ref } = await madeBy("SIGKILL", { detached: true, ttlSeconds: 600, env: { FROM: "maker" } });
        expect((await Sandbox.list({}, warren.sandboxes)).map(({ id }) => id)).toEqual([info.id]);
        await using sandbox = await Sandbox.connect(info.id, warren.sandboxes);
        expect((await sandbox.exec("echo $FROM")).stdout).toBe("maker\n");
        expect(await sandbox.python("print(6 * 7)")).toMatchObject({ exitCode: 0, stdout: "42\n" });
        await sandbox.close();
        expect(isGone(ref)).toBe(true);
      },
      VM_TEST_MS,
    );

    test(
      "ends itself at its time to live although nobody is there to see to it",
      async () => {
        const TTL_SECONDS = 6;
        const { info, ref } = await madeBy("SIGKILL", { detached: true, ttlSeconds: TTL_SECONDS });
        const deadlineMs = Date.parse(info.expiresAt ?? "");
        expect(isGone(ref)).toBe(false);
        await until("its VMM is gone", () => isGone(ref), 2 * TTL_SECONDS * 1000);
        const lateMs = systemClock.wallMs() - deadlineMs;
        expect(lateMs).toBeLessThan(1_000);
        expect(lateMs).toBeGreaterThan(-1_000); // it had its time
        expect(await listed()).toEqual([]);
      },
      VM_TEST_MS,
    );

    test(
      "ends with it when it is not detached, also by SIGKILL",
      async () => {
        for (const ending of ["exit", "SIGKILL"] as const) {
          const { ref } = await madeBy(ending, {});
          await until(`its VMM is gone after ${ending}`, () => isGone(ref), 1_000);
          expect(await listed()).toEqual([]);
        }
      },
      VM_TEST_MS,
    );
  });
}
