/** Host commands: results, deadlines, cancelling, bounds on output, and that nothing of them is left running. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { systemClock } from "../../src/base/clock.ts";
import { run, runOk } from "../../src/host/run.ts";
import { until } from "../harness/until.ts";

const sh = (script: string, more: Partial<Parameters<typeof run>[1]> = {}) =>
  run(["sh", "-c", script], { deadlineMs: 10_000, ...more });

function runs(pid: number): boolean {
  return existsSync(`/proc/${pid}/stat`) && !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
}

test("run gives exit code and both streams, and nothing of this process's environment", async () => {
  process.env["SECRET_OF_TEST"] = "s";
  const result = await sh("echo out; echo err >&2; env; exit 3", { stdin: new TextEncoder().encode("x") });
  expect(result).toMatchObject({ kind: "exited", exitCode: 3, stderr: "err\n" });
  expect(result.stdout).toStartWith("out\n");
  expect(result.stdout).not.toContain("SECRET_OF_TEST");
  expect(await run(["cat"], { deadlineMs: 5000, stdin: new TextEncoder().encode("in") })).toMatchObject({
    stdout: "in",
  });
});

test("run tells a missing command from a failing and a killed one", async () => {
  expect(await run(["no-such-command"], { deadlineMs: 1000 })).toMatchObject({ kind: "missing", exitCode: null });
  expect(await sh("kill -9 $$")).toMatchObject({ kind: "killed", exitCode: null });
  expect(runOk(["no-such-command"], { deadlineMs: 1000 })).rejects.toMatchObject({ code: "host_unsupported" });
  expect(runOk(["false"], { deadlineMs: 1000 })).rejects.toMatchObject({ code: "internal" });
  expect(await runOk(["echo", "x"], { deadlineMs: 1000 })).toBe("x\n");
});

test("run kills the whole group at the deadline", async () => {
  let pid = 0;
  const result = await sh("sleep 60 & echo $!; wait", { deadlineMs: 100, onLine: (line) => (pid = Number(line)) });
  expect(result.kind).toBe("timeout");
  await until("the grandchild is gone", () => pid > 0 && !runs(pid));
});

test("run kills the whole group when it is cancelled, and starts nothing after that", async () => {
  const stop = new AbortController();
  let pid = 0;
  const onLine = (line: string) => {
    pid = Number(line);
    stop.abort();
  };
  await expect(sh("sleep 60 & echo $!; wait", { signal: stop.signal, onLine })).rejects.toMatchObject({
    code: "cancelled",
  });
  await until("the grandchild is gone", () => pid > 0 && !runs(pid));
  await expect(sh("echo never", { signal: stop.signal })).rejects.toMatchObject({ code: "cancelled" });
});

test("run keeps the end of long output and hands on every line", async () => {
  let lines = 0;
  const result = await sh("yes 0123456789 | head -100000; echo last", { maxOutputBytes: 100, onLine: () => lines++ });
  expect(result.stdout.length).toBe(100);
  expect(result.stdout).toEndWith("last\n");
  expect(lines).toBe(100_001);
});

test("run ends with its command although what that left behind holds the streams open", async () => {
  const start = systemClock.monotonicMs();
  const result = await sh("setsid sleep 60 & echo $!");
  expect(result).toMatchObject({ kind: "exited", exitCode: 0 });
  expect(systemClock.monotonicMs() - start).toBeLessThan(5000);
  process.kill(Number(result.stdout), "SIGKILL");
});

test("run passes on what a line's reader throws, and leaves nothing running", async () => {
  let pid = 0;
  const onLine = (line: string) => {
    pid = Number(line);
    throw new Error("enough");
  };
  await expect(sh("echo $$; sleep 60", { onLine })).rejects.toThrow("enough");
  await until("the command is gone", () => pid > 0 && !runs(pid));
});
