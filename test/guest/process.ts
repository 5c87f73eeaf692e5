/** The real agent, compiled, as an ordinary process of this machine, behind a `Link`; everything it made is gone after `end`. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Socket } from "bun";
import { systemClock } from "../../src/base/clock.ts";
import type { Link } from "../../src/driver/driver.ts";
import { GuestAgent } from "../../src/guest/agent.ts";

const SOURCES = join(import.meta.dir, "../../images/agent");
const SANITIZE = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"];

/** Compiles without a warning, or throws the complaint. */
export async function compile(args: readonly string[]): Promise<void> {
  const done = Bun.spawn(["gcc", "-O1", "-Wall", "-Wextra", "-Werror", ...args], { stderr: "pipe" });
  const complaint = await new Response(done.stderr).text();
  if ((await done.exited) !== 0) throw new Error(`gcc failed:\n${complaint}`);
}

/** For a `beforeAll` that compiles, on a busy machine. */
export const BUILD_MS = 180_000;

/** Outlives the run: the next one compiles only what has changed. */
const KEPT_MS = 24 * 60 * 60 * 1000;
const CACHE = join(import.meta.dir, "../../node_modules/.cache/warren-agent");

let built: Promise<string> | null = null;

/** Directory with `agent` and `golden` (under AddressSanitizer and UBSan) and `dial`, compiled when their sources change. */
export function binaries(): Promise<string> {
  built ??= build();
  return built;
}

async function build(): Promise<string> {
  const own = [join(import.meta.dir, "dial.c"), join(import.meta.dir, "../golden/golden.c")] as const;
  const sources = [...new Bun.Glob("**/*.[ch]").scanSync(SOURCES)].map((path) => join(SOURCES, path));
  const hash = new Bun.CryptoHasher("sha256").update(SANITIZE.join(" "));
  for (const path of [...sources, ...own].sort()) hash.update(await Bun.file(path).bytes());
  const dir = join(CACHE, hash.digest("hex").slice(0, 16));
  if (existsSync(dir)) return dir;
  const partial = `${dir}.${process.pid}`;
  mkdirSync(partial, { recursive: true });
  const agent = sources.filter((path) => path.endsWith(".c"));
  const linked = agent.filter((path) => path !== join(SOURCES, "main.c"));
  await compile([...SANITIZE, ...agent, "-o", join(partial, "agent")]);
  await compile([own[0], "-o", join(partial, "dial")]);
  await compile([...SANITIZE, ...linked, own[1], "-o", join(partial, "golden")]);
  for (const old of readdirSync(CACHE)) {
    const path = join(CACHE, old);
    // What is young may be in use by a run on other sources.
    if (systemClock.wallMs() - statSync(path).mtimeMs > KEPT_MS) rmSync(path, { recursive: true, force: true });
  }
  renameSync(partial, dir);
  return dir;
}

/** What the golden frames' C program (`test/golden/golden.c`) prints for this input. */
export async function goldenProgram(mode: "say" | "read", input: string): Promise<string> {
  const dir = await binaries();
  const program = Bun.spawn([join(dir, "golden"), mode], {
    stdin: new Blob([input]),
    stdout: "pipe",
    stderr: "inherit",
  });
  const said = await new Response(program.stdout).text();
  if ((await program.exited) !== 0) throw new Error("golden failed");
  return said;
}

/** Both ends of a connection, the agent's as a process. */
export interface AgentProcess {
  readonly link: Link;
  readonly pid: number;
  /** Exit code, once it has ended. */
  readonly exited: Promise<number>;
  /** What it and the sanitizers had to say. */
  readonly stderr: Promise<string>;
  /** Stops reading from the agent, so that its output backs up. */
  pause(): void;
  resume(): void;
  end(): Promise<void>;
}

function linkOf(
  socket: Socket,
  queue: (Uint8Array | null)[],
  wake: { call: (() => void) | null },
  drained: { call: () => void },
): Link {
  const whole = async (bytes: Uint8Array): Promise<void> => {
    let left = bytes;
    while (left.length > 0) {
      const written = socket.write(left);
      if (written < 0) throw new Error("closed");
      left = left.subarray(written);
      if (left.length > 0) await new Promise<void>((resolve) => (drained.call = resolve));
    }
  };
  let last: Promise<void> = Promise.resolve();
  return {
    // One after the other: half a frame must have no other's bytes in it.
    write(bytes) {
      const mine = last.then(() => whole(bytes));
      last = mine.catch(() => undefined); // told to its writer
      return mine;
    },
    bytes: (async function* () {
      for (;;) {
        const chunk = queue.shift();
        if (chunk === null) return;
        if (chunk !== undefined) yield chunk;
        else await new Promise<void>((resolve) => (wake.call = resolve));
      }
    })(),
    close: () => socket.terminate(),
  };
}

/** `prefix` is a command that runs the agent's; `sanitizers` are options beside the ordinary ones. */
export async function startAgent(
  args: readonly string[] = [],
  prefix: readonly string[] = [],
  sanitizers = "detect_leaks=1",
): Promise<AgentProcess> {
  const dir = await binaries();
  const home = mkdtempSync(join(tmpdir(), "warren-link-"));
  const queue: (Uint8Array | null)[] = [];
  const wake = { call: null as (() => void) | null };
  const drained = { call: (): void => undefined };
  const accepted = Promise.withResolvers<Socket>();
  const put = (chunk: Uint8Array | null): void => {
    queue.push(chunk);
    wake.call?.();
  };
  const listener = Bun.listen({
    unix: join(home, "s"),
    socket: {
      open: accepted.resolve,
      data: (_, chunk) => put(chunk.slice()),
      close: () => put(null),
      drain: () => drained.call(),
      error: () => put(null),
    },
  });
  const child = Bun.spawn([...prefix, join(dir, "dial"), join(home, "s"), join(dir, "agent"), "--fd", "3", ...args], {
    stdio: ["ignore", "inherit", "pipe"],
    env: { PATH: process.env["PATH"] ?? "", ASAN_OPTIONS: `${sanitizers}:abort_on_error=0` },
  });
  const stderr = new Response(child.stderr).text();
  const ended = child.exited.then(async (code) => {
    throw new Error(`the agent ended with ${code} before it was connected:\n${await stderr}`);
  });
  ended.catch(() => undefined); // later its end is waited for by whoever started it
  const socket = await Promise.race([accepted.promise, ended]);
  listener.stop();
  rmSync(home, { recursive: true, force: true });
  return {
    link: linkOf(socket, queue, wake, drained),
    pid: child.pid,
    exited: child.exited,
    stderr,
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    async end() {
      socket.terminate();
      await child.exited;
    },
  };
}

export interface ConnectedAgent extends AsyncDisposable {
  readonly agent: GuestAgent;
  readonly process: AgentProcess;
}

/** A greeted agent. Disposing checks that it ended by itself and that no sanitizer complained. */
export async function connectAgent(
  args: readonly string[] = [],
  prefix: readonly string[] = [],
): Promise<ConnectedAgent> {
  const running = await startAgent(args, prefix);
  const agent = await GuestAgent.connect(running.link, { clock: systemClock });
  return {
    agent,
    process: running,
    async [Symbol.asyncDispose]() {
      agent.close();
      await running.end();
      const said = await running.stderr;
      if ((await running.exited) !== 0 || said !== "") throw new Error(`the agent ended badly:\n${said}`);
    },
  };
}
