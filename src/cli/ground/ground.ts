/** What the verbs stand on, as they see it: an engine over this machine's home or a server, and the machine's own facts. */
import type { Move } from "../../contract/move.ts";
import type { SandboxHost } from "../../contract/routes.ts";
import type { ApiHost } from "../../contract/table.ts";

/** A server, as options of a command line name it. */
export interface ServerFlags {
  /** Its URL; `local` for this machine's home, whatever else is configured. */
  readonly host?: string;
  readonly key?: string;
}

/** A server, and the key that it knows us by. */
export interface Target {
  /** Without a slash at its end. */
  readonly url: string;
  readonly key: string;
}

/** A server in place of an engine. */
export interface Connected extends Opened {
  readonly api: ApiHost;
}

/** An open engine; disposing it ends what is not detached. */
export interface Opened extends AsyncDisposable {
  readonly host: SandboxHost;
  /** Calls the listener with every later lifecycle move; the result ends it. */
  moves(listener: (move: Move) => void): () => void;
  readonly cores: number;
  /** Memory of all sandboxes of this process now, MiB; null where it cannot be told. */
  memoryMib(): number | null;
}

/** One row of the doctor's: what was looked at, how it is, and what to do about it. */
export interface Finding {
  readonly name: string;
  readonly state: "ok" | "degraded" | "missing";
  readonly says: string;
  /** What to do; null when nothing has to be done. */
  readonly remedy: string | null;
}

export interface Ground {
  /** Creates are expected: keeps prepared VMM processes. */
  open(options: { readonly creates: boolean }): Promise<Opened>;
  /**
   * Which server is meant: by options, else by the environment, else by the login; null for this machine's home.
   * @throws {WarrenError} `invalid_request` – no URL, or no key for it
   */
  target(flags: ServerFlags): Promise<Target | null>;
  connect(target: Target): Promise<Connected>;
  /** Keeps a login for later commands, readable by this user alone; null forgets it. @returns the file. */
  keepLogin(target: Target | null): Promise<string>;
  /** Looks at this machine; a guest may be booted to find out. */
  examine(): Promise<readonly Finding[]>;
  /** Removes everything that Warren made on this machine; the result says how many sandboxes were ended by it. */
  clean(options: { readonly force: boolean }): Promise<{ readonly killed: number; readonly home: string }>;
  /** Runs a program of the project's own in the foreground; the result is its exit code. */
  runScript(path: string, args: readonly string[]): Promise<number>;
  /** The lock of a file, or null when another process has it. */
  lock(path: string): Disposable | null;
  readonly home: string;
}
