/**
 * Just enough of `sh` for tests: words with quotes and `$NAME`, `;`, `&&`, `||`, `> FILE`, `>&2`, and a dozen commands.
 * Everything that waits does so on the clock it is given or on what it reads and writes, and ends when it is killed.
 */
import type { Clock } from "../../base/clock.ts";
import { FLUSH, GROW, MOUNT, UNMOUNT } from "../../guest/mount/scripts.ts";
import { bytesOf, type FakeFiles, GuestError, key } from "./files.ts";
import { echo, type FakePorts } from "./ports.ts";
import type { FakeTerminal } from "./terminal.ts";

export interface Shell {
  readonly files: FakeFiles;
  readonly ports: FakePorts;
  readonly clock: Clock;
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly user: string;
  readonly pid: number;
  /** Aborted with a {@link Killed}. */
  readonly killed: AbortSignal;
  /** Null at the end. */
  readonly read: () => Promise<Uint8Array | null>;
  readonly out: (bytes: Uint8Array) => Promise<void>;
  readonly err: (bytes: Uint8Array) => Promise<void>;
  /** A signal to the process itself. */
  readonly raise: (signal: number) => void;
  /** Null: pipes. */
  readonly terminal: FakeTerminal | null;
}

/** Why a process stops where it stands. */
export class Killed {
  readonly signal: number;
  constructor(signal: number) {
    this.signal = signal;
  }
}

/** `exit N` leaves every loop. */
class Leave {
  readonly code: number;
  constructor(code: number) {
    this.code = code;
  }
}

const SIGNALS: Readonly<Record<string, number>> = { HUP: 1, INT: 2, KILL: 9, TERM: 15 };
const CHUNK_BYTES = 16 * 1024;
type Command = (shell: Shell, args: readonly string[]) => Promise<number>;

const text = (s: string) => new Uint8Array(Buffer.from(s, "utf8"));

const COMMANDS: Readonly<Record<string, Command>> = {
  true: async () => 0,
  false: async () => 1,
  ":": async () => 0,
  exit: async (_, [code]) => {
    throw new Leave(Number(code ?? 0) & 0xff);
  },
  echo: async (shell, args) => {
    await shell.out(text(`${args.join(" ")}\n`));
    return 0;
  },
  printf: async (shell, [format = "", ...args]) => {
    await shell.out(bytesOf(escapes(format.replace("%s", () => args[0] ?? ""))));
    return 0;
  },
  pwd: async (shell) => {
    await shell.out(text(`${shell.cwd}\n`));
    return 0;
  },
  id: async (shell) => {
    await shell.out(text(`${shell.user}\n`));
    return 0;
  },
  sleep: async (shell, [seconds]) => {
    await nap(shell, Number(seconds) * 1000);
    return 0;
  },
  kill: async (shell, [flag = "-TERM", pid]) => {
    if (Number(pid) !== shell.pid) return 1;
    const name = flag.slice(1);
    shell.raise(SIGNALS[name.replace("SIG", "")] ?? Number(name));
    shell.killed.throwIfAborted();
    return 0;
  },
  cat: async (shell, paths) => {
    for (const path of paths) await emit(shell, shell.files.read(within(shell, path)));
    if (paths.length > 0) return 0;
    for (let chunk = await shell.read(); chunk !== null; chunk = await shell.read()) await shell.out(chunk);
    return 0;
  },
  yes: async (shell) => {
    const chunk = text("y\n".repeat(CHUNK_BYTES / 2));
    for (;;) {
      await shell.out(chunk);
      await nap(shell, 1);
    }
  },
  /** `head -c N /dev/zero` */
  head: async (shell, [, count]) => {
    for (let left = Number(count); left > 0; left -= CHUNK_BYTES) {
      await shell.out(new Uint8Array(Math.min(left, CHUNK_BYTES)));
    }
    return 0;
  },
  /** `echo-server PORT`, which no real guest has. */
  "echo-server": (shell, [port]) => shell.ports.listen(Number(port), echo, shell.killed),
  command: async (_, [, name = ""]) => (isCommand(name) ? 0 : 1),
  exec: (shell, argv) => runArgv(shell, argv),
  read: async (shell) => ((await shell.read()) === null ? 1 : 0),
  /** `stty size` */
  stty: async (shell) => {
    if (shell.terminal === null) throw new GuestError(25, "'standard input': Inappropriate ioctl for device");
    const { rows, cols } = shell.terminal.size;
    await shell.out(text(`${rows} ${cols}\n`));
    return 0;
  },
  mkdir: async (shell, args) => {
    for (const path of args.filter((a) => !a.startsWith("-"))) shell.files.mkdir(within(shell, path), 0o755);
    return 0;
  },
  rm: async (shell, args) => {
    for (const path of args.filter((a) => !a.startsWith("-"))) shell.files.removeAll(within(shell, path));
    return 0;
  },
};

/** What no shell here could run; a drive that is there mounts. */
const SCRIPTS: ReadonlySet<string> = new Set([MOUNT, UNMOUNT, GROW, FLUSH]);

/** Time passing in the guest: it keeps no process of the host alive. */
function nap({ clock, killed }: Shell, ms: number): Promise<void> {
  return new Promise((resolve, reject) => {
    if (killed.aborted) return reject(killed.reason);
    const stop = () => {
      cancel();
      reject(killed.reason);
    };
    const wake = () => {
      killed.removeEventListener("abort", stop);
      resolve();
    };
    const cancel = clock.after(ms, wake, { background: true });
    killed.addEventListener("abort", stop, { once: true });
  });
}

/** True when `argv` names something that can be run here. */
export function isCommand(name: string): boolean {
  return name === "sh" || name === "/bin/sh" || name in COMMANDS;
}

/** Runs `argv`; resolves with its exit code. @throws {Killed} */
export async function runArgv(shell: Shell, argv: readonly string[]): Promise<number> {
  const [name = "", ...args] = argv;
  try {
    if (SCRIPTS.has(args[1] ?? "")) return 0;
    const isShell = name === "sh" || name === "/bin/sh";
    if (isShell && args[0] !== "-c") return await interactive(shell);
    if (isShell) return await runScript(shell, args[1] ?? "");
    return await runCommand(shell, name, args);
  } catch (cause) {
    if (cause instanceof Leave) return cause.code;
    throw cause;
  }
}

/** Lines as they are typed, each to its end; Ctrl-C ends that alone. */
async function interactive(shell: Shell): Promise<number> {
  const prompt = text(shell.env["PS1"] ?? "# ");
  let code = 0;
  for (;;) {
    await shell.out(prompt);
    const line = await shell.read();
    if (line === null) return code;
    const stop = new AbortController();
    const over = shell.terminal?.foreground((signal) => stop.abort(new Killed(signal)));
    try {
      const killed = AbortSignal.any([shell.killed, stop.signal]);
      code = await runScript({ ...shell, killed }, new TextDecoder().decode(line));
    } catch (cause) {
      if (!(cause instanceof Killed) || shell.killed.aborted) throw cause;
      code = 128 + cause.signal;
    } finally {
      over?.();
    }
  }
}

/** `a; b && c > file`: left to right, no precedence beyond that. */
async function runScript(shell: Shell, script: string): Promise<number> {
  let code = 0;
  for (const { joint, words } of statements(shell, script)) {
    if ((joint === "&&" && code !== 0) || (joint === "||" && code === 0) || words.length === 0) continue;
    code = await redirected(shell, words);
  }
  return code;
}

async function redirected(shell: Shell, words: readonly string[]): Promise<number> {
  const at = words.findIndex((w) => w.startsWith("\0>"));
  if (at < 0) return runCommand(shell, words[0] ?? "", words.slice(1));
  const kept = words.slice(0, at);
  if (words[at] === "\0>&2") return runCommand({ ...shell, out: shell.err }, kept[0] ?? "", kept.slice(1));
  const parts: Uint8Array[] = [];
  const out = async (bytes: Uint8Array) => {
    parts.push(bytes);
  };
  const code = await runCommand({ ...shell, out }, kept[0] ?? "", kept.slice(1));
  shell.files.pour(within(shell, words[at + 1] ?? ""), new Uint8Array(Buffer.concat(parts)));
  return code;
}

async function runCommand(shell: Shell, name: string, args: readonly string[]): Promise<number> {
  const command = COMMANDS[name];
  if (command === undefined) {
    await shell.err(text(`sh: 1: ${name}: not found\n`));
    return 127;
  }
  try {
    return await command(shell, args);
  } catch (cause) {
    if (!(cause instanceof GuestError)) throw cause;
    await shell.err(text(`${name}: ${cause.message}\n`));
    return 1;
  }
}

async function emit(shell: Shell, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) await shell.out(bytes.subarray(at, at + CHUNK_BYTES));
}

function within(shell: Shell, path: string): string {
  const exact = key(text(path));
  return exact.startsWith("/") ? exact : `${shell.cwd}/${exact}`;
}

interface Statement {
  readonly joint: string;
  readonly words: string[];
}

/** Operators come as words that start with NUL, which no script can hold. */
function statements(shell: Shell, script: string): Statement[] {
  const all: Statement[] = [{ joint: ";", words: [] }];
  const token = /\s+|(;|\n|&&|\|\|)|(>&2|>)|((?:'[^']*'|"[^"]*"|[^\s;&|>'"])+)/gy;
  for (const [, joint, redirect, word] of script.matchAll(token)) {
    if (joint !== undefined) all.push({ joint, words: [] });
    if (redirect !== undefined) all.at(-1)?.words.push(`\0${redirect}`);
    if (word !== undefined) all.at(-1)?.words.push(unquoted(shell, word));
  }
  return all;
}

function unquoted(shell: Shell, word: string): string {
  return word.replace(/'([^']*)'|"([^"]*)"|([^'"]+)/g, (_, single, double, bare) =>
    single !== undefined ? single : expanded(shell, double ?? bare),
  );
}

function expanded(shell: Shell, s: string): string {
  return s.replace(/\$\$|\$(\w+)/g, (all, name) => (all === "$$" ? String(shell.pid) : (shell.env[name] ?? "")));
}

/** The escapes of printf(1) as one character per byte. */
function escapes(format: string): string {
  const latin = key(text(format));
  return latin.replace(/\\([0-7]{1,3}|[nt\\])/g, (_, e) =>
    e === "n" ? "\n" : e === "t" ? "\t" : e === "\\" ? "\\" : String.fromCharCode(Number.parseInt(e, 8) & 0xff),
  );
}
