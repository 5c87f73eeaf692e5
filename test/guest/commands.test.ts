/** Commands under the real agent, as a process of this machine under AddressSanitizer: bytes, ends, limits, streams, leftovers. */
import { beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { isWarrenError, type WarrenError } from "../../src/errors.ts";
import type { ExecRequest, GuestAgent } from "../../src/guest/agent.ts";
import { LIMITS } from "../../src/limits.ts";
import { gate } from "../harness/gates.ts";
import { BUILD_MS, binaries, connectAgent } from "./process.ts";

interface Result {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly gap: number;
  readonly exit: { exitCode: number | null; signal: string | null; timedOut: boolean } & Record<string, unknown>;
}

async function collect(events: ReturnType<GuestAgent["exec"]>): Promise<Result> {
  const parts = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
  let gap = 0;
  let exit: Result["exit"] | null = null;
  for await (const event of events) {
    if (event.kind === "stdout" || event.kind === "stderr") parts[event.kind].push(event.bytes);
    else if (event.kind === "gap") gap += event.bytes;
    else if (event.kind === "exit") exit = { ...event };
  }
  if (exit === null) throw new Error("no exit");
  return { stdout: Buffer.concat(parts.stdout), stderr: Buffer.concat(parts.stderr), gap, exit };
}

const run = (agent: GuestAgent, request: ExecRequest): Promise<Result> =>
  collect(agent.exec({ timeoutSeconds: 20, cwd: "/", ...request }));

async function out(agent: GuestAgent, cmd: string): Promise<string> {
  return Buffer.from((await run(agent, { cmd })).stdout).toString();
}

async function failure(job: Promise<unknown>): Promise<WarrenError> {
  const error = await job.then(
    () => null,
    (cause: unknown) => cause,
  );
  if (!isWarrenError(error)) throw new Error(`expected a WarrenError, got ${String(error)}`);
  return error;
}

async function startInBackground(
  agent: GuestAgent,
  cmd: string,
  more: ExecRequest = {},
): Promise<{ process: number; pid: number }> {
  for await (const event of agent.exec({ cmd, background: true, cwd: "/", ...more })) {
    if (event.kind === "started") return event;
  }
  throw new Error("not started");
}

/** Asks the agent again and again, each round trip being the wait, until something is so. */
async function until(agent: GuestAgent, so: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await so())) await agent.ping();
}

/** A zombie has run its course. */
function runs(pid: number): boolean {
  const state = Bun.spawnSync(["cat", `/proc/${pid}/stat`]).stdout.toString();
  return state !== "" && !/\) [ZX] /.test(state);
}

function writtenBytes(pid: number): number {
  return Number(/wchar: (\d+)/.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1]);
}

if (gate("gcc", "root")) {
  beforeAll(() => binaries(), BUILD_MS);

  describe("A command", () => {
    test("A command's streams come back byte for byte, however they are cut", async () => {
      await using it = await connectAgent();
      const random = crypto.getRandomValues(new Uint8Array(60_000));
      const stdin = new Uint8Array(Buffer.concat(Array.from({ length: 50 }, () => random)));
      const copied = await run(it.agent, { cmd: "tee /dev/stderr", stdin });
      expect(Buffer.compare(copied.stdout, stdin)).toBe(0);
      expect(Buffer.compare(copied.stderr, stdin)).toBe(0);
      expect(copied.exit).toMatchObject({ exitCode: 0, stdoutTruncated: false, stderrTruncated: false });
    });

    test("A command ends as it ends", async () => {
      await using it = await connectAgent();
      const table: [ExecRequest, number | null, string | null, string][] = [
        [{ cmd: "exit 7" }, 7, null, ""],
        [{ cmd: "exit 255" }, 255, null, ""],
        [{ cmd: "kill -TERM $$" }, null, "SIGTERM", ""],
        [{ cmd: "kill -SEGV $$" }, null, "SIGSEGV", ""],
        [{ argv: ["true"] }, 0, null, ""],
        [{ argv: ["no-such-command"] }, 127, null, "no-such-command: not found\n"],
        [{ argv: ["/no/such/command"] }, 127, null, "/no/such/command: not found\n"],
        [{ argv: ["/etc/passwd"] }, 126, null, "/etc/passwd: Permission denied\n"],
        [{ argv: ["/"] }, 126, null, "/: Permission denied\n"],
        [{ argv: [""] }, 127, null, ": not found\n"],
      ];
      for (const [request, exitCode, signal, stderr] of table) {
        const { exit, stderr: said } = await run(it.agent, request);
        expect([request, exit.exitCode, exit.signal, Buffer.from(said).toString()]).toEqual([
          request,
          exitCode,
          signal,
          stderr,
        ]);
      }
    });

    test("A command gets its directory, environment and user, and nothing else", async () => {
      await using it = await connectAgent();
      expect(
        await out(it.agent, "env | grep -v '^PWD\\|^_\\|^OLDPWD\\|^SHLVL' | sort; pwd; id -u; ls /proc/self/fd"),
      ).toBe(
        "HOME=/root\nLANG=C.UTF-8\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nUSER=root\n/\n0\n0\n1\n2\n3\n",
      );
      const nobody = await run(it.agent, {
        cmd: 'echo "$HOME $USER $A $LANG"; id; pwd; exec cat /proc/self/status',
        user: "nobody",
        cwd: "/tmp",
        env: { A: "b = c", LANG: "C" },
      });
      const said = Buffer.from(nobody.stdout).toString();
      expect(said).toStartWith(
        "/nonexistent nobody b = c C\nuid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)\n/tmp\n",
      );
      for (const name of ["SigBlk", "SigIgn", "SigCgt"]) expect(said).toContain(`${name}:\t0000000000000000\n`);
      const numbered = await run(it.agent, { cmd: "id -u; id -g; echo $HOME", user: "12345" });
      expect(Buffer.from(numbered.stdout).toString()).toBe("12345\n12345\n/\n");
    });

    test("A command's user has the groups that the guest's own files give it", async () => {
      const files =
        'printf "%s\\n" "u:x:1234:77::/srv/u:/bin/sh" broken: > /mnt/p; printf "%s\\n" "g:x:88:a,u" "h:x:99:uu" "i:x:77:u" > /mnt/g';
      const bind =
        "mount -t tmpfs none /mnt && " +
        files +
        " && mount --bind /mnt/p /etc/passwd && mount --bind /mnt/g /etc/group";
      await using it = await connectAgent([], ["unshare", "-m", "sh", "-c", `${bind} && exec "$@"`, "sh"]);
      const { stdout } = await run(it.agent, { cmd: "id -u; id -G; echo $HOME $USER", user: "u" });
      expect(Buffer.from(stdout).toString()).toBe("1234\n77 88\n/srv/u u\n");
      expect((await failure(run(it.agent, { cmd: "true", user: "broken" }))).code).toBe("invalid_request");
    });

    test("A command that cannot be started is the caller's mistake", async () => {
      await using it = await connectAgent();
      const wrong: ExecRequest[] = [{ user: "no-such-user" }, { cwd: "/no/such/dir" }, { cwd: "/etc/passwd" }];
      for (const more of wrong) {
        expect((await failure(run(it.agent, { cmd: "true", ...more }))).code).toBe("invalid_request");
      }
      expect(await it.agent.processes()).toEqual([]);
    });

    test("A command beyond its time is killed with all it started, though it ignores SIGTERM", async () => {
      await using it = await connectAgent();
      const request = { cmd: "trap '' TERM; sleep 1000 & echo $!; wait; while :; do :; done", timeoutSeconds: 0.2 };
      const { exit, stdout } = await run(it.agent, request);
      expect(exit).toMatchObject({ exitCode: null, signal: "SIGKILL", timedOut: true });
      await until(it.agent, () => !runs(Number(Buffer.from(stdout).toString())));
    });

    test("A command's output beyond its cap is counted, dropped and flagged, and never stops it", async () => {
      await using it = await connectAgent();
      const capped = await run(it.agent, {
        cmd: "head -c 70000000 /dev/zero; echo e >&2; exit 3",
        outputLimitBytes: 1000,
      });
      expect([capped.stdout.length, Buffer.from(capped.stderr).toString()]).toEqual([1000, "e\n"]);
      expect(capped.exit).toMatchObject({ exitCode: 3, stdoutTruncated: true, stderrTruncated: false });
      const endless = await run(it.agent, { cmd: "yes", outputLimitBytes: 10, timeoutSeconds: 0.2 });
      expect([endless.stdout.length, endless.exit.timedOut, endless.exit["stdoutTruncated"]]).toEqual([10, true, true]);
      const none = await run(it.agent, { cmd: "echo x", outputLimitBytes: 0 });
      expect([none.stdout.length, none.exit["stdoutTruncated"]]).toEqual([0, true]);
      const exactly = await run(it.agent, { cmd: "echo x", outputLimitBytes: 2 });
      expect([exactly.stdout.length, exactly.exit["stdoutTruncated"]]).toEqual([2, false]);
    });

    test("A command waits for a reader that has stopped reading, and goes on with it", async () => {
      await using it = await connectAgent();
      const events = it.agent.exec({ cmd: "exec head -c 30000000 /dev/zero", cwd: "/", outputLimitBytes: 30_000_000 });
      const started = (await events.next()).value as { pid: number };
      const first = (await events.next()).value as { bytes: Uint8Array };
      let before = 0;
      await until(it.agent, () => {
        const now = writtenBytes(started.pid);
        const still = now === before && now > 65536;
        before = now;
        return still;
      });
      // What is under way: the window, two pipes' worth, and one write of its own.
      expect(before).toBeLessThan(LIMITS.streamWindowBytes + 4 * 65536);
      const rest = await collect(events);
      expect(first.bytes.length + rest.stdout.length).toBe(30_000_000);
    });

    test("A command is killed when its events are left, when its call is aborted, and when the host hangs up", async () => {
      await using it = await connectAgent();
      const pids: number[] = [];
      for await (const event of it.agent.exec({ cmd: "yes", cwd: "/" })) {
        if (event.kind === "started") pids.push(event.pid);
        if (event.kind === "stdout") break;
      }
      const abort = new AbortController();
      const aborted = failure(
        (async () => {
          for await (const event of it.agent.exec({ cmd: "sleep 1000", cwd: "/" }, abort.signal)) {
            if (event.kind === "started") pids.push(event.pid);
            abort.abort();
          }
        })(),
      );
      expect((await aborted).code).toBe("cancelled");
      await until(it.agent, () => !pids.some(runs));
      expect(pids.length).toBe(2);
      expect(await it.agent.processes()).toEqual([]);
      const last = it.agent.exec({ cmd: "sleep 1000", cwd: "/" });
      const { pid } = (await last.next()).value as { pid: number };
      it.agent.close();
      await failure(Promise.resolve(last.next()));
      await it.process.end();
      while (runs(pid)) await new Promise((resolve) => setImmediate(resolve));
    });

    test("A command's daemon neither holds its answer back nor dies of its going", async () => {
      await using it = await connectAgent();
      const cmd =
        "(i=0; while [ -e $0 ]; do echo $i; i=$((i+1)); echo x >/proc/self/fd/3; done) 3>/dev/null & echo pid $!";
      const { stdout, exit } = await run(it.agent, { argv: ["sh", "-c", cmd, "/proc/self/exe"] });
      const pid = Number(/pid (\d+)/.exec(Buffer.from(stdout).toString())?.[1]);
      expect([exit.exitCode, runs(pid)]).toEqual([0, true]);
      const before = writtenBytes(pid);
      await until(it.agent, () => writtenBytes(pid) > before + 200_000); // beyond any pipe: somebody drains it
      process.kill(pid, "SIGKILL");
    });

    test("A command that does not read its stdin ends all the same", async () => {
      await using it = await connectAgent();
      expect((await run(it.agent, { cmd: "exit 3", stdin: new Uint8Array(3_000_000) })).exit.exitCode).toBe(3);
      expect(
        (await run(it.agent, { cmd: "exec <&-; echo closed", stdin: new Uint8Array(900_000) })).exit.exitCode,
      ).toBe(0);
      expect(await out(it.agent, "cat; echo end")).toBe("end\n");
    });

    test("A command with open stdin is written to by its number, and sees its end", async () => {
      await using it = await connectAgent();
      const events = it.agent.exec({ cmd: "cat", stdinOpen: true, cwd: "/" });
      const { process } = (await events.next()).value as { process: number };
      await it.agent.stdin(process, "one ");
      await it.agent.stdin(process, new Uint8Array(200_000).fill(46));
      await it.agent.stdin(process, "");
      const { stdout, exit } = await collect(events);
      expect([stdout.length, exit.exitCode]).toEqual([200_004, 0]);
      expect((await failure(it.agent.stdin(process, "late"))).code).toBe("process_not_found");
    });

    test("A command that ends with its stdin unread ends the wait of who writes to it", async () => {
      await using it = await connectAgent();
      const events = it.agent.exec({ cmd: "read first; exit 3", stdinOpen: true });
      const { process } = (await events.next()).value as { process: number };
      const writing = failure(it.agent.stdin(process, new Uint8Array(3_000_000)));
      await it.agent.signal(process, "SIGTERM");
      await collect(events);
      expect(["wrong_state", "process_not_found"]).toContain((await writing).code);
    });

    test("Commands by the hundred run at once on one connection", async () => {
      await using it = await connectAgent();
      const all = Array.from({ length: 200 }, (_, i) => out(it.agent, `echo ${i}; cat /dev/null`));
      expect(await Promise.all(all)).toEqual(Array.from({ length: 200 }, (_, i) => `${i}\n`));
    }, 30_000);
  });

  describe("A background command", () => {
    test("A background command goes on by itself, and is followed by as many as like", async () => {
      await using it = await connectAgent();
      const { process } = await startInBackground(it.agent, "echo a; echo b >&2; read x; echo got $x; exit 4", {
        stdinOpen: true,
      });
      const followers = [0, 1, 2].map(() => collect(it.agent.attach(process)));
      const [info] = await it.agent.processes();
      expect(info).toMatchObject({ process, background: true, running: true, exitCode: null });
      await it.agent.stdin(process, "word\n");
      for (const { stdout, stderr, exit } of await Promise.all(followers)) {
        expect([Buffer.from(stdout).toString(), Buffer.from(stderr).toString(), exit.exitCode]).toEqual([
          "a\ngot word\n",
          "b\n",
          4,
        ]);
      }
      expect((await it.agent.processes())[0]).toMatchObject({ running: false, exitCode: 4, signal: null });
      expect(Buffer.from((await collect(it.agent.attach(process))).stdout).toString()).toBe("a\ngot word\n");
    });

    test("A background command's stdin is given at once and closed", async () => {
      await using it = await connectAgent();
      const { process } = await startInBackground(it.agent, "wc -c", { stdin: "x".repeat(100_000) });
      expect(Buffer.from((await collect(it.agent.attach(process))).stdout).toString()).toBe("100000\n");
      const { process: unread } = await startInBackground(it.agent, "exec sleep 1000", { stdin: "x".repeat(100_000) });
      await it.agent.ping();
      await it.agent.signal(unread, "SIGKILL");
      expect((await collect(it.agent.attach(unread))).exit.signal).toBe("SIGKILL");
    });

    test("A background command is never held up, and a late follower learns what it has missed", async () => {
      await using it = await connectAgent();
      const total = 3_000_000;
      const { process } = await startInBackground(it.agent, `head -c ${total} /dev/zero; echo end`);
      await until(it.agent, async () => (await it.agent.processes())[0]?.running === false);
      const { stdout, gap } = await collect(it.agent.attach(process));
      expect(gap + stdout.length).toBe(total + 4);
      expect(stdout.length).toBeLessThanOrEqual(LIMITS.ringBytes);
      expect(stdout.length).toBeGreaterThan(LIMITS.ringBytes / 2);
      expect(Buffer.from(stdout.slice(-4)).toString()).toBe("end\n");
    });

    test("A background command is signalled, and all it started with it", async () => {
      await using it = await connectAgent();
      const { process } = await startInBackground(it.agent, "sleep 1000 & echo $!; wait");
      const events = it.agent.attach(process);
      await events.next();
      const piece = (await events.next()).value as { bytes: Uint8Array };
      const inner = Number(Buffer.from(piece.bytes).toString());
      await it.agent.signal(process, "SIGTERM");
      expect((await collect(events)).exit.signal).toBe("SIGTERM");
      await until(it.agent, () => !runs(inner));
      expect((await failure(it.agent.signal(process, 9))).code).toBe("process_not_found");
      expect((await failure(it.agent.signal(process, "SIGNONE"))).code).toBe("invalid_request");
    });

    test("A background command outlives leaving its followers; a foreground one has none", async () => {
      await using it = await connectAgent();
      const { process, pid } = await startInBackground(it.agent, "echo x; sleep 1000");
      for await (const event of it.agent.attach(process)) if (event.kind === "stdout") break;
      expect((await failure(collect(it.agent.attach(99)))).code).toBe("process_not_found");
      const events = it.agent.exec({ cmd: "sleep 1000", cwd: "/" });
      const started = (await events.next()).value as { process: number };
      expect((await failure(collect(it.agent.attach(started.process)))).code).toBe("wrong_state");
      await events.return(undefined);
      expect(runs(pid)).toBe(true);
      await it.agent.signal(process, 9);
    });

    test("Background commands are remembered up to a bound, the oldest end forgotten first", async () => {
      await using it = await connectAgent();
      const { process: kept } = await startInBackground(it.agent, "exec sleep 1000");
      for (let i = 0; i < LIMITS.processes + 20; i += 20) {
        await Promise.all(
          Array.from({ length: 20 }, () => startInBackground(it.agent, "echo x", { argv: ["true"] } as ExecRequest)),
        );
      }
      const all = await it.agent.processes();
      expect(all.length).toBeLessThanOrEqual(LIMITS.processes);
      expect(all[0]?.process).toBe(kept);
      await it.agent.signal(kept, 9);
    }, 60_000);
  });
}
