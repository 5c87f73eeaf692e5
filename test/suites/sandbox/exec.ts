/** Commands in the foreground: output, end, input, surroundings. */
import { expect } from "bun:test";
import type { ExecEvent } from "../../../src/contract/routes/exec.ts";
import { LIMITS } from "../../../src/limits.ts";
import { until } from "../../harness/until.ts";
import { fails, pattern, type Subject, sha256 } from "./subject.ts";

export function execTests({ host, shared, does, needs }: Subject): void {
  outputTests({ shared, does });
  endTests({ host, shared, does, needs });
  inputTests({ shared, does });
  surroundingTests({ shared, does, needs });
  streamTests({ host, shared, does });
}

function outputTests({ shared, does }: Pick<Subject, "shared" | "does">): void {
  does("exec keeps both streams apart", async () => {
    const result = await shared().exec("echo out; echo err >&2");
    expect(result).toMatchObject({ stdout: "out\n", stderr: "err\n", exitCode: 0, signal: null });
    expect(result).toMatchObject({ timedOut: false, truncated: false });
  });

  does("exec keeps exact bytes, text and not", async () => {
    const { stdoutBytes } = await shared().exec("printf 'a\\000\\377\\303\\n'");
    expect([...stdoutBytes]).toEqual([0x61, 0, 0xff, 0xc3, 0x0a]);
    expect((await shared().exec(["echo", "grüße 🐇"])).stdout).toBe("grüße 🐇\n");
  });

  does("exec of an argument vector passes each argument as it is", async () => {
    const odd = ["echo", "a  b", "$FROM", "'q'", "*", "; exit 3", "", "ü"];
    expect((await shared().exec(odd)).stdout).toBe(`${odd.slice(1).join(" ")}\n`);
  });

  does("exec carries more output than any window holds", async () => {
    const bytes = 12 * LIMITS.streamWindowBytes + 1;
    const { stdoutBytes, truncated } = await shared().exec(`head -c ${bytes} /dev/zero`);
    expect([stdoutBytes.length, truncated]).toEqual([bytes, false]);
  });

  does("exec cuts each stream at the limit, says so, and lets the command end", async () => {
    const result = await shared().exec("head -c 5000 /dev/zero; echo done >&2", { outputLimitBytes: 1000 });
    expect(result.stdoutBytes.length).toBe(1000);
    expect(result).toMatchObject({ truncated: true, stderr: "done\n", exitCode: 0 });
    const exact = await shared().exec("head -c 1000 /dev/zero", { outputLimitBytes: 1000 });
    expect([exact.stdoutBytes.length, exact.truncated]).toEqual([1000, false]);
    const none = await shared().exec("echo x", { outputLimitBytes: 0 });
    expect([none.stdout, none.truncated]).toEqual(["", true]);
  });

  does("exec runs many commands at once without mixing them", async () => {
    const names = Array.from({ length: 20 }, (_, i) => `n${i}`);
    const results = await Promise.all(names.map((name) => shared().exec(["echo", name])));
    expect(results.map((r) => r.stdout)).toEqual(names.map((name) => `${name}\n`));
  });
}

function endTests({ host, shared, does, needs }: Omit<Subject, "detached">): void {
  does("exec gives the exit code as a result", async () => {
    for (const code of [0, 1, 3, 255]) {
      expect(await shared().exec(`exit ${code}`)).toMatchObject({ exitCode: code, signal: null });
    }
    expect((await shared().exec("nosuchcommand")).exitCode).toBe(127);
  });

  does("exec gives the signal that ended it", async () => {
    expect(await shared().exec("kill -9 $$")).toMatchObject({ exitCode: null, signal: "SIGKILL", timedOut: false });
    expect(await shared().exec("kill -TERM $$")).toMatchObject({ exitCode: null, signal: "SIGTERM" });
  });

  does("exec ends a command at its timeout, with what it said before", async () => {
    const result = await shared().exec("echo before; sleep 1000", { timeoutSeconds: 0.4 });
    expect(result).toMatchObject({ stdout: "before\n", exitCode: null, signal: "SIGKILL", timedOut: true });
    expect(result.durationMs).toBeGreaterThanOrEqual(390);
  });

  does("exec ends endless output at its timeout", async () => {
    const result = await shared().exec("yes", { timeoutSeconds: 2, outputLimitBytes: 100_000 });
    expect(result).toMatchObject({ timedOut: true, truncated: true });
    expect(result.stdoutBytes.length).toBe(100_000);
  });

  needs("shell", "exec ends what a command started, also what ignores SIGTERM and left its group", async () => {
    const script = "trap '' TERM HUP INT; setsid sleep 54321 & (trap '' TERM; while :; do sleep 9; done)";
    expect((await shared().exec(script, { timeoutSeconds: 0.7 })).timedOut).toBe(true);
    await until("nothing of it is left", async () => {
      const { stdout } = await shared().exec("ps -eo args");
      return !stdout.includes("sleep 54321");
    });
  });

  does("exec refuses no command, two commands, and arguments that do not fit", async () => {
    const { id } = shared();
    await fails("invalid_request", host().exec({ id }));
    await fails("invalid_request", host().exec({ id, argv: [] }));
    await fails("invalid_request", host().exec({ id, cmd: "true", argv: ["true"] }));
    const large = "x".repeat(LIMITS.execArgumentBytes + 1);
    const error = await fails("invalid_request", shared().exec(["echo", large]));
    expect(error.message).toContain("stdin");
    await fails("invalid_request", shared().exec("true", { cwd: "relative" }));
    await fails("invalid_request", shared().exec("true", { env: { "A=B": "c" } }));
    await fails("invalid_request", shared().exec("echo \0"));
  });
}

function inputTests({ shared, does }: Pick<Subject, "shared" | "does">): void {
  does("exec gives stdin exactly, and then its end", async () => {
    expect((await shared().exec("cat", { stdin: "line\nno newline" })).stdout).toBe("line\nno newline");
    const bytes = new Uint8Array([0, 255, 10, 13]);
    expect((await shared().exec(["cat"], { stdin: bytes })).stdoutBytes).toEqual(bytes);
    expect((await shared().exec("cat", { stdin: "" })).stdout).toBe("");
  });

  does("exec without stdin gives an empty one", async () => {
    expect(await shared().exec("cat", { timeoutSeconds: 20 })).toMatchObject({ stdout: "", timedOut: false });
  });

  does("exec passes far more stdin than any window holds", async () => {
    const bytes = pattern(6 * LIMITS.streamWindowBytes + 3);
    const { stdoutBytes } = await shared().exec("cat", { stdin: bytes });
    expect(sha256(stdoutBytes)).toBe(sha256(bytes));
  });

  does("exec takes stdin as it comes", async () => {
    async function* pieces() {
      for (const piece of ["one ", "", "two ", "three"]) yield new TextEncoder().encode(piece);
    }
    expect((await shared().exec("cat", { stdin: pieces() })).stdout).toBe("one two three");
  });

  does("exec does not fail when a command ends without reading its stdin", async () => {
    const bytes = pattern(4 * LIMITS.streamWindowBytes);
    expect((await shared().exec("exit 4", { stdin: bytes })).exitCode).toBe(4);
    async function* endless() {
      for (;;) yield new Uint8Array(10_000);
    }
    expect((await shared().exec("exit 5", { stdin: endless() })).exitCode).toBe(5);
  });

  does("exec fails with the error of a stdin that breaks", async () => {
    async function* broken() {
      yield new Uint8Array([65]);
      throw new Error("the source broke");
    }
    await expect(shared().exec("cat", { stdin: broken() })).rejects.toThrow("the source broke");
  });
}

function surroundingTests({ shared, does, needs }: Pick<Subject, "shared" | "does" | "needs">): void {
  does("exec merges the sandbox's environment with its own", async () => {
    const { stdout } = await shared().exec("echo $FROM $BOTH $OWN", { env: { BOTH: "exec", OWN: "1 = 1" } });
    expect(stdout).toBe("sandbox exec 1 = 1\n");
  });

  does("exec starts in the sandbox's workdir unless told otherwise", async () => {
    expect((await shared().exec("pwd")).stdout).toBe("/work\n");
    expect((await shared().exec("pwd", { cwd: "/tmp" })).stdout).toBe("/tmp\n");
  });

  needs("shell", "exec in a directory that is not there is an error", async () => {
    await expect(shared().exec("pwd", { cwd: "/not/there" })).rejects.toThrow();
  });

  needs("users", "exec runs as the user that is named, by name or number", async () => {
    expect((await shared().exec("id -un")).stdout).toBe("root\n");
    expect((await shared().exec("id -un", { user: "nobody" })).stdout).toBe("nobody\n");
    expect((await shared().exec("id -u", { user: "65534" })).stdout).toBe("65534\n");
    await expect(shared().exec("id", { user: "no-such-user" })).rejects.toThrow();
  });
}

function streamTests({ host, shared, does }: Pick<Subject, "host" | "shared" | "does">): void {
  does("stream tells started first and exit last", async () => {
    const kinds: string[] = [];
    for await (const event of await shared().stream("echo a; echo b >&2")) kinds.push(event.kind);
    expect([kinds[0], kinds.at(-1)]).toEqual(["started", "exit"]);
    expect([...kinds].sort()).toEqual(["exit", "started", "stderr", "stdout"]);
  });

  does("stream that is left ends the command", async () => {
    let events = 0;
    let pid = 0;
    for await (const event of await shared().stream("yes leaving")) {
      if (event.kind === "started") pid = event.pid;
      if (++events === 3) break;
    }
    await until(
      "the command is gone",
      async () => !(await shared().processes()).some((p) => p.pid === pid && p.running),
    );
  });

  does("stream that is aborted ends the command and throws", async () => {
    const abort = new AbortController();
    const seen: ExecEvent["kind"][] = [];
    const reading = (async () => {
      for await (const event of await shared().stream("echo up; sleep 1000", { signal: abort.signal })) {
        seen.push(event.kind);
        if (event.kind === "stdout") abort.abort();
      }
    })();
    await expect(reading).rejects.toThrow();
    expect(seen).toEqual(["started", "stdout"]);
    const left = async () => (await shared().processes()).some((p) => p.command.includes("sleep 1000") && p.running);
    await until("the command is gone", async () => !(await left()));
  });

  does("stream of a slow reader waits for it and loses nothing", async () => {
    let bytes = 0;
    const total = 4 * LIMITS.streamWindowBytes;
    for await (const event of await host().exec({ id: shared().id, cmd: `head -c ${total} /dev/zero` })) {
      if (event.kind === "stdout") bytes += event.bytes.length;
      await Promise.resolve();
    }
    expect(bytes).toBe(total);
  });
}
