/**
 * The handle to one sandbox: sugar over a `SandboxHost`, with no logic of its own, so it is the same class in process, from
 * another process and over HTTP. A command's exit code, signal, timeout and cut output are results, never errors.
 */
import type { Body, CallOptions } from "./contract/route.ts";
import type { Exec, ExecEvent, ProcessInfo, PythonRun } from "./contract/routes/exec.ts";
import type { PromoteResult } from "./contract/routes/forks.ts";
import type { Egress, NetworkEvent, NetworkInfo } from "./contract/routes/network.ts";
import type { PortInfo } from "./contract/routes/ports.ts";
import type {
  LifecycleChange,
  LifecycleInfo,
  SandboxCreate,
  SandboxInfo,
  SandboxMetrics,
  SandboxState,
} from "./contract/routes/sandboxes.ts";
import type { AttachedVolume } from "./contract/routes/volumes.ts";
import type { SandboxHost } from "./contract/routes.ts";
import { WarrenError } from "./errors.ts";
import { LIMITS } from "./limits.ts";
import { collect, type ExecResult, feed } from "./sandbox/collect.ts";
import { SandboxContexts } from "./sandbox/contexts.ts";
import { defaultHost } from "./sandbox/default-host.ts";
import { type Candidate, type Exploration, type ExploreOptions, explore } from "./sandbox/explore.ts";
import { SandboxFiles } from "./sandbox/files.ts";
import {
  connectPort,
  type ForwardOptions,
  fetchPort,
  forwardPort,
  openWebSocket,
  type PortConnection,
  type PortForward,
  type PortRequest,
  type WebSocketOptions,
} from "./sandbox/ports.ts";
import { SandboxProcess, startProcess } from "./sandbox/process.ts";
import { Snapshot, type SnapshotOptions } from "./sandbox/snapshots.ts";
import { SandboxTerminal, SHELL, type TerminalOptions } from "./sandbox/terminal.ts";
import type { MountOptions, Volume } from "./sandbox/volume.ts";

/** One `sh -c` string, an argument vector, or Python in the template's warm interpreter (source text or more). */
export type Command = string | readonly string[] | { readonly python: string | PythonRun };

export interface ExecOptions extends CallOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Name or number from the guest's `/etc/passwd`; default root. */
  readonly user?: string;
  /** Given whole, or as it comes; then closed. Without it stdin is empty. */
  readonly stdin?: Body;
  /**
   * The whole process group is killed in the guest after this long; default {@link LIMITS.execTimeoutSeconds}, and for
   * `spawn` none.
   */
  readonly timeoutSeconds?: number;
  /** Bytes kept of stdout and of stderr each; default {@link LIMITS.outputBytes}. The rest is counted and dropped. */
  readonly outputLimitBytes?: number;
}

export interface PythonOptions extends ExecOptions {
  /** `sys.argv[1:]`. */
  readonly args?: readonly string[];
  /** Where the source is written first; default the contract's `PYTHON_PATH`. */
  readonly path?: string;
}

export interface SpawnOptions extends Omit<ExecOptions, "stdin" | "outputLimitBytes"> {
  /** Keeps stdin open for `write` and `closeStdin`; else it is empty. */
  readonly stdinOpen?: boolean;
}

export type CreateOptions = SandboxCreate & CallOptions;
export interface ListOptions extends CallOptions {
  readonly state?: SandboxState;
  readonly template?: string;
  /** Only those that have all of these entries. */
  readonly metadata?: Record<string, string>;
  readonly limit?: number;
  /** Only those after this one: `createdAt/id`. */
  readonly after?: string;
}

export interface ForkOptions extends CallOptions {
  /** Added to the parent's. */
  readonly metadata?: Record<string, string>;
  /** At most what the parent has left, which is the default. */
  readonly ttlSeconds?: number;
  /** What may leave the child: nothing that the parent's policy does not allow, which is the default. */
  readonly egress?: Egress;
}

/**
 * @example
 * await using sb = await Sandbox.create({ template: "code-interpreter" });
 * const { stdout } = await sb.python("print(6 * 7)");
 */
export class Sandbox implements AsyncDisposable {
  readonly id: string;
  readonly files: SandboxFiles;
  readonly contexts: SandboxContexts;
  readonly #host: SandboxHost;

  /** A handle without asking whether there is such a sandbox; see {@link Sandbox.connect}. */
  constructor(host: SandboxHost, id: string) {
    this.#host = host;
    this.id = id;
    this.files = new SandboxFiles(host, id);
    this.contexts = new SandboxContexts(host, id);
  }

  /** Makes a sandbox and waits until it is ready for commands. @throws {WarrenError} as the contract's `create` says. */
  static async create(options: CreateOptions = {}, host?: SandboxHost): Promise<Sandbox> {
    const { signal, ...input } = options;
    const on = host ?? (await defaultHost());
    const { id } = await on.create(input, signal === undefined ? {} : { signal });
    return new Sandbox(on, id);
  }

  /**
   * Restores a snapshot, by id or name, with the environment that its sandbox had.
   * @throws {WarrenError} `invalid_request` – there is none; `snapshot_invalid` – damaged, or made on another kind of host
   */
  static fromSnapshot(snapshot: Snapshot | string, options: CreateOptions = {}, host?: SandboxHost): Promise<Sandbox> {
    const name = typeof snapshot === "string" ? snapshot : snapshot.id;
    return Sandbox.create({ ...options, snapshot: name }, host);
  }

  /** A handle to one that exists, made here or detached elsewhere. @throws {WarrenError} `not_found` */
  static async connect(id: string, host?: SandboxHost): Promise<Sandbox> {
    const on = host ?? (await defaultHost());
    return new Sandbox(on, (await on.get({ id })).id);
  }

  /** Sandboxes of the home, newest first. */
  static async list(options: ListOptions = {}, host?: SandboxHost): Promise<SandboxInfo[]> {
    const { signal, ...input } = options;
    return (host ?? (await defaultHost())).list(input, signal === undefined ? {} : { signal });
  }

  info(): Promise<SandboxInfo> {
    return this.#host.get({ id: this.id });
  }

  /** Runs a command to its end and keeps its output. @throws {WarrenError} `wrong_state`, `sandbox_lost`, … */
  async exec(command: Command, options: ExecOptions = {}): Promise<ExecResult> {
    const limitBytes = options.outputLimitBytes ?? LIMITS.outputBytes;
    return collect(await this.stream(command, options), limitBytes);
  }

  /** Runs Python source with exactly the semantics of `python3 FILE`. */
  python(code: string, options: PythonOptions = {}): Promise<ExecResult> {
    const { args, path, ...rest } = options;
    const python: PythonRun = { code };
    if (args !== undefined) python.args = [...args];
    if (path !== undefined) python.path = path;
    return this.exec({ python }, rest);
  }

  /** Output as it comes, `exit` last. Leaving the loop early kills the command and all it started. */
  async stream(command: Command, options: ExecOptions = {}): Promise<AsyncIterable<ExecEvent>> {
    const { stdin, signal, ...rest } = options;
    const call = signal === undefined ? {} : { signal };
    const request = { id: this.id, ...asRequest(command), ...copied(rest) };
    if (stdin === undefined) return this.#host.exec(request, call);
    if (typeof stdin === "string" || stdin instanceof Uint8Array) return this.#host.exec({ ...request, stdin }, call);
    const start = (over: AbortSignal) =>
      this.#host.exec(
        { ...request, stdinOpen: true },
        { signal: signal === undefined ? over : AbortSignal.any([signal, over]) },
      );
    return feed(start, stdin, (process, body) => this.#host.stdin({ id: this.id, process, body }));
  }

  /** Starts a command in the background: it outlives this handle, its output is kept in a bounded ring. */
  async spawn(command: Command, options: SpawnOptions = {}): Promise<SandboxProcess> {
    const { signal, ...rest } = options;
    return startProcess(this.#host, { id: this.id, ...asRequest(command), ...copied(rest) }, signal);
  }

  /**
   * Opens a terminal with a shell or another command, which outlives this handle; a number comes back to one that is there.
   * @throws {WarrenError} `process_not_found` – no command has this number
   * @example
   * const terminal = await sb.terminal({ rows: 40, cols: 120 });
   * await terminal.write("make\n");
   * for await (const bytes of terminal.output) process.stdout.write(bytes);
   */
  async terminal(options: TerminalOptions | number = {}): Promise<SandboxTerminal> {
    if (typeof options === "number") {
      const { process, pid } = await this.process(options);
      return new SandboxTerminal(this.#host, this.id, process, pid);
    }
    const { rows = 24, cols = 80, cmd = SHELL, signal, ...rest } = options;
    const request = { id: this.id, ...asRequest(cmd), ...copied(rest), terminal: { rows, cols } };
    const { process, pid } = await startProcess(this.#host, request, signal);
    return new SandboxTerminal(this.#host, this.id, process, pid);
  }

  /** Commands under way, and background ones after their end. */
  processes(): Promise<ProcessInfo[]> {
    return this.#host.processes({ id: this.id });
  }

  /** A handle to a background command that someone started earlier. @throws {WarrenError} `process_not_found` */
  async process(process: number): Promise<SandboxProcess> {
    const found = (await this.processes()).find((p) => p.process === process);
    if (found !== undefined) return new SandboxProcess(this.#host, this.id, process, found.pid);
    throw new WarrenError("process_not_found", `sandbox ${this.id} has no process ${process}`);
  }

  /** TCP ports that programs in the sandbox listen on, lowest first. */
  ports(): Promise<PortInfo[]> {
    return this.#host.ports({ id: this.id });
  }

  /**
   * Connects to a TCP port of the sandbox. Needs no network: services on 127.0.0.1 are reached, with egress `none` too.
   * @throws {WarrenError} `wrong_state` – nothing listens there; what does is in `details.listening`
   */
  connect(port: number, options: CallOptions = {}): Promise<PortConnection> {
    return connectPort(this.#at(port), options.signal);
  }

  /**
   * An HTTP request to a port of the sandbox; bodies stream both ways. Redirects are followed within the sandbox only: one
   * that leads out of it is handed back. Bodies are not compressed unless asked for, and never decompressed.
   * @throws {WarrenError} `wrong_state` – nothing listens there; `guest_protocol` – what does speaks no HTTP; an abort's reason
   * @example
   * const page = await (await sb.fetch(8000, "/index.html")).text();
   */
  fetch(port: number, request: PortRequest, init?: RequestInit): Promise<Response> {
    return fetchPort(this.#at(port), request, init);
  }

  /** A WebSocket to a port of the sandbox, not open yet; its events tell. @throws {WarrenError} `wrong_state` – nothing listens there */
  websocket(port: number, path = "/", options: WebSocketOptions = {}): Promise<WebSocket> {
    return openWebSocket(this.#at(port), path, options);
  }

  /** Listens on this host and leads each connection to the port of the sandbox. @throws {WarrenError} `invalid_request` */
  forward(port: number, options: ForwardOptions = {}): PortForward {
    return forwardPort(this.#at(port), options);
  }

  #at(port: number): { readonly host: SandboxHost; readonly id: string; readonly port: number } {
    return { host: this.#host, id: this.id, port };
  }

  /**
   * Forks it as it runs, memory and disk of one instant: the child goes on from there by itself, and so does this one.
   * Commands that someone is waiting for here are cancelled in the child; background ones and services live on in it.
   */
  async fork(options: ForkOptions = {}): Promise<Sandbox> {
    const [child] = await this.forks(1, options);
    if (child === undefined) throw new WarrenError("internal", `sandbox ${this.id} was forked without a child`);
    return child;
  }

  /** Several forks of one instant: all of them, or none. */
  async forks(count: number, options: ForkOptions = {}): Promise<Sandbox[]> {
    const { signal, ...input } = options;
    const call = signal === undefined ? {} : { signal };
    const { children } = await this.#host.fork({ id: this.id, count, ...input }, call);
    return children.map(({ id }) => new Sandbox(this.#host, id));
  }

  /** Forks that know their siblings; see {@link Sandbox.promote}. */
  async forkTree(
    count: number,
    options: ForkOptions = {},
  ): Promise<{ readonly treeId: string; readonly children: Sandbox[] }> {
    const { signal, ...input } = options;
    const call = signal === undefined ? {} : { signal };
    const { treeId, children } = await this.#host.forkTree({ id: this.id, count, ...input }, call);
    return { treeId, children: children.map(({ id }) => new Sandbox(this.#host, id)) };
  }

  /** Makes a child of a tree stand alone; `cleanupSiblings` ends the others. */
  promote(options: { readonly treeId?: string; readonly cleanupSiblings?: boolean } = {}): Promise<PromoteResult> {
    return this.#host.promote({ id: this.id, ...options });
  }

  /**
   * Best of N over forks: tries every candidate from this instant, keeps the winner, ends the losers.
   * @example
   * const { winner } = await sb.explore(["python3 greedy.py", "python3 exact.py"], { score: (_, o) => -o.durationMs });
   */
  explore(candidates: readonly (Candidate | string)[], options: ExploreOptions = {}): Promise<Exploration> {
    return explore(this, candidates, options);
  }

  /** Keeps its memory and disk of this instant on disk; it goes on running. @throws {WarrenError} `storage_exhausted` */
  async snapshot(options: SnapshotOptions = {}): Promise<Snapshot> {
    const { signal, ...input } = options;
    const { id } = await this.#host.snapshot({ id: this.id, ...input }, signal === undefined ? {} : { signal });
    return new Snapshot(this.#host, id);
  }

  /** Stops it where it stands; its memory stays. Calls are refused until `resume`. */
  pause(): Promise<void> {
    return this.#host.pause({ id: this.id });
  }

  resume(): Promise<void> {
    return this.#host.resume({ id: this.id });
  }

  /** Keeps it on disk alone until the next call, which wakes it where it stood. */
  hibernate(): Promise<void> {
    return this.#host.hibernate({ id: this.id });
  }

  /** Wakes it without another call. */
  wake(): Promise<void> {
    return this.#host.wake({ id: this.id });
  }

  /**
   * Attaches a volume while it runs, mounted at `mount` (default `/volumes/NAME`).
   * @throws {WarrenError} `volume_in_use` – someone writes it, or it is to be written and someone reads it; `invalid_request`
   */
  attachVolume(
    volume: Volume | string,
    options: MountOptions & { readonly mount?: string } = {},
  ): Promise<AttachedVolume> {
    const name = typeof volume === "string" ? volume : volume.name;
    return this.#host.attachVolume({ id: this.id, name, ...options });
  }

  /** Unmounts it, all written to it on disk. @throws {WarrenError} `volume_in_use` – a process in the sandbox uses it */
  detachVolume(volume: Volume | string): Promise<void> {
    const name = typeof volume === "string" ? volume : volume.name;
    return this.#host.detachVolume({ id: this.id, name });
  }

  /** What may leave it, and what it has used of its network. */
  /** When it ends by itself, and for how long nobody has used it. */
  lifecycle(): Promise<LifecycleInfo> {
    return this.#host.lifecycle({ id: this.id });
  }

  /** Changes that; what is left out stays. @throws {WarrenError} `unsupported` – another process made it */
  setLifecycle(change: Omit<LifecycleChange, "id">): Promise<LifecycleInfo> {
    return this.#host.setLifecycle({ id: this.id, ...change });
  }

  /** What it uses of its host, and what its guest says of itself. */
  metrics(): Promise<SandboxMetrics> {
    return this.#host.metrics({ id: this.id });
  }

  network(): Promise<NetworkInfo> {
    return this.#host.network({ id: this.id });
  }

  /**
   * Replaces what may leave it, at once: open connections that the new policy does not allow stop.
   * @throws {WarrenError} `invalid_request` – an entry; `host_unsupported` – this host gives sandboxes no network
   */
  setNetwork(egress: Egress): Promise<NetworkInfo> {
    return this.#host.setNetwork({ id: this.id, egress });
  }

  /** What it tried to reach, oldest first; the latest {@link LIMITS.egressLogRows}. */
  networkLog(): Promise<{ readonly events: NetworkEvent[]; readonly lost: number }> {
    return this.#host.networkLog({ id: this.id });
  }

  /** Ends the sandbox and frees all it held; doing so twice is fine. */
  close(): Promise<void> {
    return this.#host.close({ id: this.id });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function asRequest(command: Command): Pick<Exec, "cmd" | "argv" | "python"> {
  if (typeof command === "string") return { cmd: command };
  if ("python" in command) {
    const { python } = command;
    return { python: typeof python === "string" ? { code: python } : python };
  }
  return { argv: [...command] };
}

/** Without what was not given, and with an environment of its own. */
function copied<T extends { readonly env?: Readonly<Record<string, string>> }>(options: T): T & { env?: Exec["env"] } {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  return given as T & { env?: Exec["env"] };
}
