/** Terminals: what is typed and seen, sizes, interrupts, ends, leaving and coming back. */
import { expect } from "bun:test";
import { isWarrenError } from "../../../src/errors.ts";
import { LIMITS } from "../../../src/limits.ts";
import type { SandboxTerminal, TerminalEnd } from "../../../src/sandbox/terminal.ts";
import { until } from "../../harness/until.ts";
import { fails, type Subject } from "./subject.ts";

/** What a terminal shows, read all the time. */
class Screen {
  #text = "";
  readonly over: Promise<void>;

  constructor(terminal: SandboxTerminal) {
    this.over = this.#read(terminal);
    this.over.catch(() => undefined); // awaited by those who wait for it
  }

  async #read(terminal: SandboxTerminal): Promise<void> {
    for await (const bytes of terminal.output) this.#text += Buffer.from(bytes).toString("latin1");
  }

  get text(): string {
    return this.#text;
  }

  /** Waits until this is shown, and forgets all up to its end. */
  async sees(wanted: string): Promise<void> {
    await until("it is shown", () => this.#text.includes(wanted), 60_000).catch(() => {
      throw new Error(`${JSON.stringify(wanted)} is not shown, but ${JSON.stringify(this.#text.slice(-2000))}`);
    });
    this.#text = this.#text.slice(this.#text.indexOf(wanted) + wanted.length);
  }
}

/** About a second's. */
const LOOKS_A_PRESS = 100;

/** Presses a key again and again until `seen`: a shell drops a signal that comes while it puts something in the foreground. */
async function pressed(terminal: SandboxTerminal, key: string, seen: () => boolean): Promise<void> {
  let looks = 0;
  await until(`what ${JSON.stringify(key)} does`, async () => {
    if (!seen() && looks++ % LOOKS_A_PRESS === 0)
      await terminal.write(key).catch((cause: unknown) => {
        if (!isWarrenError(cause, "process_not_found")) throw cause; // it has just ended
      });
    return seen();
  });
}

async function endOf(terminal: SandboxTerminal, key: string): Promise<TerminalEnd> {
  let ended = false;
  const end = terminal.exited;
  const note = (): void => {
    ended = true;
  };
  end.then(note, note);
  await pressed(terminal, key, () => ended);
  return end;
}

const PROMPT = { PS1: "prompt> ", ENV: "" };

export function terminalTests({ host, shared, does, needs }: Subject): void {
  const shell = () => shared().terminal({ cmd: ["sh", "-i"], env: PROMPT });

  does("terminal is a shell that one types to: prompt, echo, answer, exit code", async () => {
    const terminal = await shell();
    const screen = new Screen(terminal);
    await screen.sees("prompt> ");
    await terminal.write("echo ans''wer $TERM $FROM\n");
    await screen.sees("echo ans''wer $TERM $FROM\r\n");
    await screen.sees("answer xterm-256color sandbox\r\n");
    await screen.sees("prompt> ");
    await terminal.write("exit 7\r");
    expect(await terminal.exited).toMatchObject({ exitCode: 7, signal: null, timedOut: false });
    await screen.over;
  });

  does("terminal has the size it was given, and then the one it is resized to", async () => {
    const terminal = await shared().terminal({ cmd: ["sh", "-i"], env: PROMPT, rows: 30, cols: 111 });
    const screen = new Screen(terminal);
    await terminal.write("stty size\n");
    await screen.sees("30 111\r\n");
    await terminal.resize({ rows: 50, cols: 132 });
    await terminal.write("stty size\n");
    await screen.sees("50 132\r\n");
    await fails("invalid_request", terminal.resize({ rows: 0, cols: 80 }));
    await terminal.kill();
    await terminal.exited;
    await fails("process_not_found", terminal.resize({ rows: 5, cols: 5 }));
  });

  does("terminal's Ctrl-C ends what runs in the foreground, and its shell goes on", async () => {
    const terminal = await shell();
    const screen = new Screen(terminal);
    await screen.sees("prompt> ");
    await terminal.write("echo run''ning; sleep 1000\n");
    await screen.sees("running\r\n");
    await pressed(terminal, "\x03", () => screen.text.includes("prompt> "));
    expect((await endOf(terminal, "\x04")).signal).toBeNull();
    const direct = await shared().terminal({ cmd: "echo ready; sleep 1000" });
    const shown = new Screen(direct);
    await shown.sees("ready");
    expect(await endOf(direct, "\x03")).toMatchObject({ exitCode: null, signal: "SIGINT" });
  });

  does("terminal is left and come back to, by its number, with what it has shown", async () => {
    const terminal = await shell();
    await terminal.write("echo fir''st\n");
    let seen = "";
    for await (const bytes of terminal.output) {
      seen += Buffer.from(bytes).toString();
      if (seen.includes("first\r\n")) break;
    }
    const again = await shared().terminal(terminal.process);
    expect(again.pid).toBe(terminal.pid);
    const screen = new Screen(again);
    await screen.sees("first\r\n");
    await again.write("echo sec''ond\n");
    await screen.sees("second\r\n");
    expect((await shared().processes()).find((p) => p.process === again.process)).toMatchObject({ running: true });
    await again.write("exit\n");
    expect((await again.exited).exitCode).toBe(0);
    await fails("process_not_found", shared().terminal(99_999));
  });

  does("terminal's input ends when it is closed, and its program sees that", async () => {
    const terminal = await shared().terminal({ cmd: "cat; echo after" });
    const screen = new Screen(terminal);
    await terminal.write("line\n");
    await screen.sees("line\r\nline\r\n");
    await host().stdin({ id: shared().id, process: terminal.process, body: new Uint8Array(0) });
    await screen.sees("after\r\n");
    expect((await terminal.exited).exitCode).toBe(0);
  });

  does("exec in a terminal has all output as stdout, whole, and its own limits", async () => {
    const bytes = 10 * 1024 * 1024;
    const terminal = { rows: 24, cols: 80 };
    let got = 0;
    let last: unknown;
    for await (const event of await host().exec({ id: shared().id, cmd: `head -c ${bytes} /dev/zero`, terminal })) {
      if (event.kind === "stdout") got += event.bytes.length;
      last = event;
    }
    expect(got).toBe(bytes);
    expect(last).toMatchObject({ kind: "exit", exitCode: 0, stdoutTruncated: false });
    const seen = { stdout: "", stderr: 0, timedOut: false };
    const events = await host().exec({
      id: shared().id,
      cmd: "echo out; echo err >&2; sleep 1000",
      terminal,
      timeoutSeconds: 0.5,
    });
    for await (const event of events) {
      if (event.kind === "stdout") seen.stdout += Buffer.from(event.bytes).toString();
      if (event.kind === "stderr") seen.stderr += event.bytes.length;
      if (event.kind === "exit") seen.timedOut = event.timedOut;
    }
    expect(seen).toEqual({ stdout: "out\r\nerr\r\n", stderr: 0, timedOut: true });
  });

  does("resize of what has no terminal, or of nothing, is refused", async () => {
    const piped = await shared().spawn("sleep 1000");
    const size = { id: shared().id, rows: 24, cols: 80 };
    await fails("wrong_state", host().resizeTerminal({ ...size, process: piped.process }));
    await fails("process_not_found", host().resizeTerminal({ ...size, process: 99_999 }));
    await fails("invalid_request", host().resizeTerminal({ ...size, process: piped.process, cols: 1001 }));
    await piped.signal(9);
  });

  wholeTerminalTests({ shared, needs });
}

/** With a whole system behind it. */
function wholeTerminalTests({ shared, needs }: Pick<Subject, "shared" | "needs">): void {
  needs("shell", "terminal is one to every program: modes, job control, full screens", async () => {
    const terminal = await shared().terminal({ env: { HISTFILE: "" } });
    const screen = new Screen(terminal);
    await screen.sees("# "); // bash, which edits its lines itself
    await terminal.write("PS1='prom''pt> '\n");
    await screen.sees("prompt> ");
    await terminal.write("stty -a | head -1; tput cols; tput setaf 1 | od -An -c; tty\n");
    await screen.sees("rows 24; columns 80;");
    await screen.sees("80\r\n");
    await screen.sees("033");
    await screen.sees("/dev/pts/");
    await terminal.write("sh -c 'echo run\"\"ning; exec sleep 1000'\n");
    await screen.sees("running\r\n");
    await terminal.write("\x1a");
    await screen.sees("Stopped");
    await terminal.write("jobs; kill %1; wait; echo do''ne\n");
    await screen.sees("done\r\n");
    await terminal.write("top\n");
    await screen.sees("\x1b[H\x1b[");
    await screen.sees("load average");
    await terminal.write("q");
    await screen.sees("prompt> ");
    await terminal.write("exit 3\n");
    expect((await terminal.exited).exitCode).toBe(3);
  });

  needs("shell", "terminal that is killed takes every job of its session with it", async () => {
    const terminal = await shared().terminal({ cmd: ["bash", "--norc", "-i"] });
    const screen = new Screen(terminal);
    await terminal.write("sleep 43210 & setsid sleep 43211 & nohup sleep 43212 >/dev/null & echo on''ly then\n");
    await screen.sees("only then\r\n");
    await until("all of them run", async () => (await shared().exec("pgrep -cf '^sleep 4321'")).stdout === "3\n");
    await terminal.kill();
    expect((await terminal.exited).signal).toBe("SIGKILL");
    await until("none of them runs", async () => (await shared().exec("pgrep -cf '^sleep 4321'")).stdout === "0\n");
  });

  needs("shell", "terminal that prints endlessly while nobody looks costs no more than its ring", async () => {
    const terminal = await shared().terminal({ cmd: "yes" });
    const agentKib = async () => Number((await shared().exec("awk '/VmRSS/{print $2}' /proc/1/status")).stdout);
    const settled = await agentKib();
    await shared().exec("sleep 1");
    expect((await agentKib()) - settled).toBeLessThan(LIMITS.ringBytes / 1024 + 2048);
    await terminal.kill();
    expect((await terminal.exited).signal).toBe("SIGKILL");
  });

  needs("users", "terminal runs as the user who was asked for", async () => {
    const terminal = await shared().terminal({
      cmd: 'id -un; stat -c %U "$(tty)"; exit 4',
      user: "nobody",
      cwd: "/tmp",
    });
    const screen = new Screen(terminal);
    expect((await terminal.exited).exitCode).toBe(4);
    await screen.over;
    expect(screen.text).toBe("nobody\r\nnobody\r\n");
  });
}
