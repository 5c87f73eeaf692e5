/**
 * A `SandboxHost` in memory for tests of what stands on one. Programs are one-line commands instead of Python:
 * `print TEXT`, `error TEXT`, `exit N`, `signal NAME`, `echo` (stdin), `cat PATH`, `write PATH TEXT`, `sleep MS`, `timeout`,
 * `flood N` (bytes), `bytes HEX`, `lose`, `ours`, `hang`; several are separated by `; `. Tests may look into everything.
 */
import { type Clock, systemClock } from "../../src/base/clock.ts";
import { tarEnd, tarHeader, tarPadding } from "../../src/base/tar.ts";
import type { Move } from "../../src/contract/move.ts";
import type { Body } from "../../src/contract/route.ts";
import type { Exec, ExecEvent } from "../../src/contract/routes/exec.ts";
import type { FileInfo } from "../../src/contract/routes/files.ts";
import type { SandboxCreate, SandboxInfo, SandboxState } from "../../src/contract/routes/sandboxes.ts";
import { routes, type SandboxHost } from "../../src/contract/routes.ts";
import { WarrenError } from "../../src/errors.ts";

export interface StubSandbox {
  readonly info: SandboxInfo;
  readonly input: SandboxCreate;
  readonly files: Map<string, Uint8Array>;
  readonly programs: string[];
  gone: boolean;
}

export async function bytesOf(body: Body): Promise<Uint8Array> {
  if (typeof body === "string") return new TextEncoder().encode(body);
  if (body instanceof Uint8Array) return body;
  const parts: Uint8Array[] = [];
  for await (const chunk of body) parts.push(chunk.slice());
  return Buffer.concat(parts);
}

async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
}

function info(path: string, type: FileInfo["type"], size: number): FileInfo {
  return { name: path.split("/").at(-1) ?? "", path, type, size, mode: 0o644, uid: 0, gid: 0, mtime: 0 };
}

export class StubHost {
  readonly sandboxes = new Map<string, StubSandbox>();
  readonly calls: string[] = [];
  alive = 0;
  mostAlive = 0;
  created = 0;
  /** Runs before each create; may throw. */
  beforeCreate: (input: SandboxCreate, number: number) => void | Promise<void> = () => undefined;
  /** Replaces the archive of a directory. */
  archive: ((sandbox: StubSandbox, path: string) => AsyncIterable<Uint8Array>) | null = null;
  keepEnded = true;
  readonly #listeners = new Set<(move: Move) => void>();
  readonly #clock: Clock;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  readonly moves = (listener: (move: Move) => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  #move(sandbox: string, sequence: number, from: SandboxState | null, to: SandboxState, event: string): void {
    const at = { monotonicMs: this.#clock.monotonicMs(), wallMs: this.#clock.wallMs() };
    const size = { account: "local", template: "code-interpreter", cpu: 1, memoryMib: 512 };
    for (const listener of this.#listeners)
      listener({ sandbox, ...size, sequence, from, to, event, reason: null, ...at });
  }

  #get(id: string): StubSandbox {
    const sandbox = this.sandboxes.get(id);
    if (sandbox === undefined) throw new WarrenError("not_found", `there is no sandbox ${id}`);
    if (sandbox.gone) throw new WarrenError("sandbox_lost", `sandbox ${id} is gone`);
    return sandbox;
  }

  get host(): SandboxHost {
    const refuse = async () => {
      throw new WarrenError("unsupported", "the stub has no such call");
    };
    // Every row of the contract; those that a batch uses follow.
    const none = Object.fromEntries(Object.keys(routes).map((name) => [name, refuse])) as unknown as SandboxHost;
    return {
      ...none,
      create: async (input, options) => {
        this.created += 1;
        const number = this.created;
        await this.beforeCreate(input, number);
        options?.signal?.throwIfAborted();
        const id = `sb_${number}`;
        if (input.template !== undefined && input.template !== "code-interpreter" && input.template !== "base") {
          throw new WarrenError("template_not_found", `there is no template ${input.template}`);
        }
        this.#move(id, 1, null, "creating", "created");
        this.#move(id, 2, "creating", "running", "booted");
        this.alive += 1;
        this.mostAlive = Math.max(this.mostAlive, this.alive);
        const made: SandboxInfo = {
          id,
          template: input.template ?? "code-interpreter",
          cpu: input.cpu ?? 1,
          memoryMb: input.memoryMb ?? 512,
          state: "running",
          reason: null,
          detached: input.detached ?? false,
          metadata: {},
          createdAt: new Date(0).toISOString(),
          expiresAt: null,
          createMs: 1,
          createPath: "none",
          parentId: null,
          snapshotId: null,
          ownerPid: process.pid,
          volumes: [],
          egress: { mode: "none" },
          notes: [],
        };
        this.sandboxes.set(id, { info: made, input, files: new Map(), programs: [], gone: false });
        return made;
      },
      get: async ({ id }) => this.#get(id).info,
      list: async () => [...this.sandboxes.values()].filter((s) => !s.gone).map((s) => s.info),
      close: async ({ id }) => {
        const sandbox = this.sandboxes.get(id);
        if (sandbox === undefined || sandbox.info.state === "deleted") return;
        (sandbox.info as { state: SandboxState }).state = "deleted";
        sandbox.gone = true;
        this.alive -= 1;
        this.#move(id, 3, "running", "stopping", "close");
        this.#move(id, 4, "stopping", "deleted", "reaped");
        if (!this.keepEnded) this.sandboxes.delete(id);
      },
      exec: async (input, options) => this.#run(this.#get(input.id), input, options?.signal),
      writeFile: async ({ id, path, body }) => {
        const bytes = await bytesOf(body);
        this.#get(id).files.set(path, bytes);
        return info(path, "file", bytes.length);
      },
      readFile: async ({ id, path }) => {
        const bytes = this.#get(id).files.get(path);
        if (bytes === undefined) throw new WarrenError("file_not_found", `${path} does not exist`);
        return pieces(bytes);
      },
      stat: async ({ id, path }) => {
        const { files } = this.#get(id);
        const bytes = files.get(path);
        if (bytes !== undefined) return info(path, "file", bytes.length);
        if ([...files.keys()].some((name) => name.startsWith(`${path}/`))) return info(path, "directory", 0);
        throw new WarrenError("file_not_found", `${path} does not exist`);
      },
      removeFile: async ({ id, path }) => {
        this.#get(id).files.delete(path);
      },
      archiveOut: async ({ id, path }) => this.archive?.(this.#get(id), path) ?? this.#tar(this.#get(id), path),
      archiveIn: async ({ id, path, body }) => {
        this.#get(id).files.set(`${path}/.tar`, await bytesOf(body));
      },
      templates: async () => [{ name: "code-interpreter", description: "stub", baked: [], diskBytes: 0 }],
      bake: async ({ name }) => {
        if (name !== "code-interpreter" && name !== "base") {
          throw new WarrenError("template_not_found", `there is no template ${name}`);
        }
        return (async function* () {})();
      },
      removeTemplate: async () => undefined,
    };
  }

  async *#tar({ files }: StubSandbox, root: string): AsyncGenerator<Uint8Array> {
    for (const [path, bytes] of files) {
      if (!path.startsWith(`${root}/`)) continue;
      const name = Buffer.from(`./${path.slice(root.length + 1)}`);
      yield tarHeader({ kind: "file", name, size: bytes.length, mode: 0o644, mtime: 0 });
      yield bytes;
      yield new Uint8Array(tarPadding(bytes.length));
    }
    yield tarEnd();
  }

  async *#run(sandbox: StubSandbox, input: Exec, signal?: AbortSignal): AsyncGenerator<ExecEvent> {
    const path = input.python?.path ?? "/work/item.py";
    const code = input.python?.code ?? (input.python === undefined ? input.cmd : undefined);
    const program = code ?? new TextDecoder().decode(sandbox.files.get(path));
    sandbox.programs.push(program);
    const run: Run = {
      sandbox,
      input,
      signal,
      clock: this.#clock,
      end: { exitCode: 0, signal: null, timedOut: false, cut: false },
    };
    yield { kind: "started", process: 1, pid: 100 };
    for (const step of program.split("; ")) {
      const [verb = "", ...words] = step.split(" ");
      const said = await VERBS[verb]?.(run, words.join(" "));
      if (said instanceof Uint8Array) yield { kind: verb === "error" ? "stderr" : "stdout", bytes: said };
    }
    const { cut, ...end } = run.end;
    yield { kind: "exit", ...end, stdoutTruncated: cut, stderrTruncated: false, durationMs: 1 };
  }
}

interface Run {
  readonly sandbox: StubSandbox;
  readonly input: Exec;
  readonly signal: AbortSignal | undefined;
  readonly clock: Clock;
  end: { exitCode: number | null; signal: string | null; timedOut: boolean; cut: boolean };
}

const VERBS: Readonly<Record<string, (run: Run, rest: string) => unknown>> = {
  print: (_, rest) => Buffer.from(`${rest}\n`),
  error: (_, rest) => Buffer.from(`${rest}\n`),
  bytes: (_, rest) => Buffer.from(rest, "hex"),
  echo: ({ input }) => Buffer.from(input.stdin ?? ""),
  cat: ({ sandbox }, path) => sandbox.files.get(path),
  write: ({ sandbox }, rest) => {
    const [path = "", ...words] = rest.split(" ");
    sandbox.files.set(path, Buffer.from(words.join(" ")));
  },
  sleep: ({ clock, signal }, ms) => clock.sleep(Number(ms), signal),
  exit: (run, code) => {
    run.end.exitCode = Number(code);
  },
  signal: (run, signal) => {
    run.end = { ...run.end, exitCode: null, signal };
  },
  timeout: (run) => {
    run.end = { ...run.end, exitCode: null, signal: "SIGKILL", timedOut: true };
  },
  flood: (run, bytes) => {
    const cap = run.input.outputLimitBytes ?? 0;
    run.end.cut = Number(bytes) > cap;
    return new Uint8Array(Math.min(Number(bytes), cap)).fill(97);
  },
  hang: ({ signal }) => new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason))),
  ours: () => {
    throw new WarrenError("driver_failed", "the stub failed");
  },
  lose: ({ sandbox }) => {
    sandbox.gone = true;
    throw new WarrenError("sandbox_lost", `sandbox ${sandbox.info.id} ended during the call: its VMM is gone`);
  },
};
