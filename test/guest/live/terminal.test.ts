/** Commands in terminals under the real agent, as a process of this machine under AddressSanitizer. */
import { beforeAll, describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import type { ExecEvent } from "../../../src/contract/routes/exec.ts";
import { isWarrenError } from "../../../src/errors.ts";
import type { ExecRequest, GuestAgent } from "../../../src/guest/agent.ts";
import { LIMITS } from "../../../src/limits.ts";
import { gate } from "../../harness/gates.ts";
import { until } from "../../harness/until.ts";
import { BUILD_MS, binaries, type ConnectedAgent, connectAgent } from "../process.ts";

const SIZE = { rows: 24, cols: 80 };
type Exit = ExecEvent & { kind: "exit" };

/** A command in a terminal whose output is read all the time. */
class Session {
  readonly ended: Promise<Exit>;
  readonly #agent: GuestAgent;
  readonly #started = Promise.withResolvers<{ process: number; pid: number }>();
  #text = "";
  stderr = 0;

  constructor(agent: GuestAgent, request: ExecRequest, terminal: Pick<ExecRequest, "terminal"> = { terminal: SIZE }) {
    this.#agent = agent;
    this.ended = this.#read(agent.exec({ ...terminal, cwd: "/", timeoutSeconds: 30, ...request }));
    this.ended.catch((cause: unknown) => this.#started.reject(cause));
    this.#started.promise.catch(() => undefined); // told by `ended`
  }

  get started(): Promise<{ process: number; pid: number }> {
    return this.#started.promise;
  }

  get text(): string {
    return this.#text;
  }

  async #read(events: AsyncIterable<ExecEvent>): Promise<Exit> {
    for await (const event of events) {
      if (event.kind === "started") this.#started.resolve(event);
      else if (event.kind === "stdout") this.#text += Buffer.from(event.bytes).toString("latin1");
      else if (event.kind === "stderr") this.stderr += event.bytes.length;
      else if (event.kind === "exit") return event;
    }
    throw new Error("no exit");
  }

  async type(text: string): Promise<void> {
    await this.#agent.stdin((await this.started).process, text);
  }

  async closes(): Promise<void> {
    await this.#agent.stdin((await this.started).process, new Uint8Array(0));
  }

  async resize(rows: number, cols: number): Promise<void> {
    await this.#agent.resizeTerminal((await this.started).process, { rows, cols });
  }

  /** Waits until this has been printed, and forgets all up to its end. */
  async sees(wanted: string): Promise<string> {
    await until(
      `${JSON.stringify(wanted)} in ${JSON.stringify(this.#text)}`,
      () => this.#text.includes(wanted),
      10_000,
    );
    const end = this.#text.indexOf(wanted) + wanted.length;
    const seen = this.#text.slice(0, end);
    this.#text = this.#text.slice(end);
    return seen;
  }
}

async function whole(agent: GuestAgent, request: ExecRequest): Promise<{ text: string; exit: Exit }> {
  const session = new Session(agent, request);
  const exit = await session.ended;
  expect(session.stderr).toBe(0);
  return { text: session.text, exit };
}

/** The code that it fails with. */
async function code(job: Promise<unknown>): Promise<string> {
  const error = await job.then(
    () => null,
    (cause: unknown) => cause,
  );
  return isWarrenError(error) ? error.code : `no WarrenError: ${String(error)}`;
}

const descriptors = ({ process }: ConnectedAgent): number => readdirSync(`/proc/${process.pid}/fd`).length;

async function background(agent: GuestAgent, request: ExecRequest): Promise<{ process: number; pid: number }> {
  for await (const event of agent.exec({ terminal: SIZE, cwd: "/", ...request, background: true })) {
    if (event.kind === "started") return event;
  }
  throw new Error("not started");
}

if (gate("gcc", "root")) {
  beforeAll(() => binaries(), BUILD_MS);

  describe("A terminal", () => {
    test("A terminal is the command's own, of the size that was asked for", async () => {
      await using it = await connectAgent();
      const cmd =
        "tty | cut -d/ -f1-3; stty size; echo $TERM; test -t 0 -a -t 1 -a -t 2 && echo all; exec cat /proc/self/stat";
      const { text, exit } = await whole(it.agent, { cmd, terminal: { rows: 33, cols: 101 } });
      expect(text).toStartWith("/dev/pts\r\n33 101\r\nxterm-256color\r\nall\r\n");
      const [state, , group, session, tty, foreground] = text.slice(text.lastIndexOf(") ") + 2).split(" ");
      expect(state).toBe("R");
      expect(session).toBe(group!);
      expect(foreground).toBe(group!);
      expect(Number(tty) >> 8).toBe(136); // a slave of the pty driver
      expect(exit).toMatchObject({ exitCode: 0, signal: null, timedOut: false, stdoutTruncated: false });
      const own = await whole(it.agent, { cmd: "echo $TERM", env: { TERM: "dumb" } });
      expect(own.text).toBe("dumb\r\n");
    });

    test("A terminal belongs to the command's user, who may open it by its path", async () => {
      await using it = await connectAgent();
      const { text } = await whole(it.agent, {
        cmd: 'id -u; echo opened > "$(tty)"; stat -c %u "$(tty)"',
        user: "nobody",
      });
      expect(text).toBe("65534\r\nopened\r\n65534\r\n");
    });

    test("A terminal takes what is typed, shows it, and edits lines", async () => {
      await using it = await connectAgent();
      const session = new Session(it.agent, {
        cmd: 'while read -r line; do echo "got <$line>"; done; echo over; exit 6',
      });
      await session.type("hello\n");
      expect(await session.sees("got <hello>\r\n")).toBe("hello\r\ngot <hello>\r\n");
      await session.type("wröng\x7f\x7f\x7f\x7fong\n"); // erases characters, not bytes
      await session.sees("got <wong>");
      await session.type("\x04");
      await session.sees("over");
      expect((await session.ended).exitCode).toBe(6);
    });

    test("A terminal's Ctrl-C interrupts what runs in the foreground, and a shell there goes on", async () => {
      await using it = await connectAgent();
      const direct = new Session(it.agent, { cmd: "echo ready; exec sleep 1000" });
      await direct.sees("ready");
      await direct.type("\x03");
      expect(await direct.ended).toMatchObject({ exitCode: null, signal: "SIGINT" });
      const shell = new Session(it.agent, { argv: ["sh", "-i"], env: { PS1: "prompt> ", ENV: "" } });
      await shell.sees("prompt> ");
      await shell.type("echo run''ning; sleep 1000\n");
      await shell.sees("running");
      await shell.type("\x03");
      await shell.sees("prompt> ");
      await shell.type("echo $?; exit 5\n");
      await shell.sees("\r\n130\r\n");
      expect(await shell.ended).toMatchObject({ exitCode: 5, signal: null });
    });

    test("A terminal that is resized says so to its program", async () => {
      await using it = await connectAgent();
      const cmd = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
      const session = new Session(it.agent, { cmd });
      await session.sees("ready");
      await session.resize(50, 132);
      await session.sees("50 132");
      const { process } = await session.started;
      for (const [rows, cols] of [
        [0, 80],
        [24, 65_536],
      ] as const) {
        expect(await code(it.agent.resizeTerminal(process, { rows, cols }))).toBe("wrong_state");
      }
      await it.agent.signal(process, 9);
      await session.ended;
      expect(await code(session.resize(1, 1))).toBe("process_not_found");
      const piped = new Session(it.agent, { cmd: "sleep 1000" }, {});
      expect(await code(piped.resize(1, 1))).toBe("wrong_state");
      await it.agent.signal((await piped.started).process, 9);
      await piped.ended;
      expect(await code(whole(it.agent, { cmd: "true", terminal: { rows: 70_000, cols: 1 } }))).toBe("invalid_request");
    });

    test("A terminal's closed stdin is an end of file, after half a line too, and ends nothing else", async () => {
      await using it = await connectAgent();
      for (const typed of ["", "whole line\n", "half a line"]) {
        const session = new Session(it.agent, { cmd: "cat; echo; echo after" });
        if (typed !== "") await session.type(typed);
        await session.closes();
        await session.sees("after");
        expect((await session.ended).exitCode).toBe(0);
        expect(await code(session.type("late"))).toBe("process_not_found");
      }
      const keys = new Session(it.agent, { cmd: "stty raw -echo; printf ready; dd bs=1 count=3 2>/dev/null" });
      await keys.sees("ready");
      await keys.type("a\x04\x03");
      expect((await keys.ended).exitCode).toBe(0);
      expect(keys.text).toBe("a\x04\x03");
    });

    test("A terminal's stdin that is given at once is typed, and stays open", async () => {
      await using it = await connectAgent();
      const session = new Session(it.agent, { cmd: "read a; read b; echo $b$a", stdin: "one\n" });
      await session.sees("one\r\n");
      await session.type("two\n");
      await session.sees("twoone");
      await session.ended;
    });

    test("A terminal carries what a program prints byte for byte, however it is read", async () => {
      await using it = await connectAgent();
      const bytes = 10 * 1024 * 1024;
      const cmd = `stty raw; head -c ${bytes} /dev/urandom | tee /dev/stderr 2>"$F"`;
      const file = `/tmp/warren-terminal-${process.pid}`;
      const hash = new Bun.CryptoHasher("sha256");
      let got = 0;
      for await (const event of it.agent.exec({ cmd, terminal: SIZE, env: { F: file }, cwd: "/" })) {
        if (event.kind !== "stdout") continue;
        got += event.bytes.length;
        hash.update(event.bytes);
      }
      expect(got).toBe(bytes);
      expect(hash.digest("hex")).toBe(
        new Bun.CryptoHasher("sha256").update(await Bun.file(file).bytes()).digest("hex"),
      );
      await Bun.file(file).delete();
    });

    test("A terminal takes much that is typed, as fast as its program reads", async () => {
      await using it = await connectAgent();
      const lines = Array.from({ length: 20_000 }, (_, i) => `line number ${i}\n`).join("");
      const session = new Session(it.agent, { cmd: "stty -echo; echo ready; sha256sum" });
      await session.sees("ready\r\n");
      await session.type(lines);
      await session.closes();
      expect((await session.ended).exitCode).toBe(0);
      expect(session.text).toStartWith(new Bun.CryptoHasher("sha256").update(lines).digest("hex"));
    }, 20_000);

    test("A terminal's last words all come, a thousand times", async () => {
      await using it = await connectAgent();
      const job = async () => {
        const { text, exit } = await whole(it.agent, { cmd: "seq 1500; exit 3" });
        expect(exit.exitCode).toBe(3);
        expect(text.split("\r\n")).toHaveLength(1501);
      };
      for (let i = 0; i < 125; i++) await Promise.all(Array.from({ length: 8 }, job));
    }, 120_000);

    test("A terminal is not waited for when a daemon keeps it, and hangs up on it", async () => {
      await using it = await connectAgent();
      const before = descriptors(it);
      const daemons = [
        "trap '' HUP; sleep 1000 & echo $!", // holds it, and says nothing
        "trap '' HUP; yes & echo $!; sleep 0.1", // says something all the time, until it has hung up
      ];
      for (const cmd of daemons) {
        const { text, exit } = await whole(it.agent, { cmd });
        expect(exit.exitCode).toBe(0);
        const pid = Number(/^(\d+)\r$/m.exec(text)?.[1]);
        expect(pid).toBeGreaterThan(1);
        if (cmd.includes("yes")) await until("yes has ended", () => !runs(pid));
        else process.kill(pid, "SIGKILL");
      }
      await until("it holds no more than before", () => descriptors(it) === before);
    });

    test("A terminal's foreground hears that it has hung up when its leader ends", async () => {
      await using it = await connectAgent();
      const cmd = "sleep 1000 & echo $!; kill -9 $$";
      const { text } = await whole(it.agent, { argv: ["sh", "-c", cmd] });
      const pid = Number(/^(\d+)\r$/m.exec(text)?.[1]);
      await until("the sleeper has ended", () => !runs(pid));
    });

    test("A terminal's program that prints all the time grows nothing and is stopped by its limits", async () => {
      await using it = await connectAgent();
      const { exit, text } = await whole(it.agent, { cmd: "yes", timeoutSeconds: 0.5, outputLimitBytes: 100_000 });
      expect(exit).toMatchObject({ timedOut: true, signal: "SIGKILL", stdoutTruncated: true });
      expect(text.length).toBe(100_000);
      // Nobody reads: the program waits for its terminal.
      const events = it.agent.exec({ cmd: "exec yes", terminal: SIZE, cwd: "/" });
      const first = await events.next();
      if (first.value?.kind !== "started") throw new Error("not started");
      const { pid } = first.value;
      await until("it waits", () => !runs(pid) || stateOf(pid) === "S");
      await events.return(undefined);
      await until("leaving its events has ended it", () => !runs(pid));
    });

    test("A terminal in the background is left and come back to, with what its ring holds", async () => {
      await using it = await connectAgent();
      const { process } = await background(it.agent, { argv: ["sh", "-i"], env: { PS1: "$ ", ENV: "" } });
      await it.agent.stdin(process, "echo fir''st\n");
      const read = async (wanted: string): Promise<string> => {
        let text = "";
        for await (const event of it.agent.attach(process)) {
          if (event.kind === "stdout") text += Buffer.from(event.bytes).toString();
          if (text.includes(wanted)) break;
        }
        return text;
      };
      expect(await read("first\r\n")).toContain("$ ");
      await it.agent.stdin(process, "echo sec''ond\n");
      expect(await read("second\r\n")).toContain("first\r\n");
      await it.agent.resizeTerminal(process, { rows: 5, cols: 7 });
      await it.agent.stdin(process, "stty size\n");
      await read("5 7\r\n");
      await it.agent.stdin(process, "yes | head -c 3000000; exit 4\n");
      const seen = { gap: 0, bytes: 0 };
      let exit: ExecEvent | null = null;
      await until("it has ended", async () => (await it.agent.processes()).every((each) => !each.running));
      for await (const event of it.agent.attach(process)) {
        if (event.kind === "gap") seen.gap += event.bytes;
        if (event.kind === "stdout") seen.bytes += event.bytes.length;
        if (event.kind === "exit") exit = event;
      }
      expect(exit).toMatchObject({ exitCode: 4 });
      expect(seen.gap).toBeGreaterThan(0);
      expect(seen.bytes).toBeLessThanOrEqual(LIMITS.ringBytes);
    });

    test("A terminal leaves nothing in the agent when it has ended", async () => {
      await using it = await connectAgent();
      const before = descriptors(it);
      for (let i = 0; i < 20; i++) await whole(it.agent, { cmd: "echo x" });
      const events = it.agent.exec({ cmd: "sleep 1000", terminal: SIZE, cwd: "/" });
      await events.next();
      await events.return(undefined);
      await until("as many descriptors as before", () => descriptors(it) === before);
    });

    test("A terminal runs Python too, as a program of its own", async () => {
      await using it = await connectAgent();
      const path = `/tmp/warren-terminal-${process.pid}.py`;
      const python = { path, code: "import sys, os; print(sys.stdout.isatty(), os.get_terminal_size().columns)" };
      expect((await whole(it.agent, { python })).text).toBe("True 80\r\n");
      await Bun.file(path).delete();
    });
  });
}

function stateOf(pid: number): string {
  const stat = Bun.spawnSync(["cat", `/proc/${pid}/stat`]).stdout.toString();
  return stat === "" ? "Z" : (stat.slice(stat.lastIndexOf(")") + 2).split(" ")[0] ?? "Z");
}

/** A zombie has run its course. */
function runs(pid: number): boolean {
  return !["Z", "X"].includes(stateOf(pid));
}
