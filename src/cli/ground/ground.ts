/** What the verbs stand on, as they see it: an engine over this machine's home, and the machine's own facts. */
import type { Move } from "../../contract/move.ts";
import type { SandboxHost } from "../../contract/routes.ts";

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
