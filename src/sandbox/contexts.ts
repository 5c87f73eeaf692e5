/** Code contexts of a sandbox: interpreters whose variables live on from cell to cell, and in every fork. */
import type { CallOptions } from "../contract/route.ts";
import type { CellEvent, ContextCreate, ContextInfo, MimeBundle } from "../contract/routes/contexts.ts";
import type { SandboxHost } from "../contract/routes.ts";
import { WarrenError } from "../errors.ts";

export type ContextOptions = Omit<ContextCreate, "id"> & CallOptions;
export interface CellOptions extends CallOptions {
  /** From when the cell's turn comes; it is interrupted then. */
  readonly timeoutSeconds?: number;
}

/** What a cell came to. A failure of its code is a result, never an error. */
export interface CellResult {
  readonly status: Extract<CellEvent, { readonly kind: "end" }>["status"];
  /** The result as text; null when the cell has none. */
  readonly text: string | null;
  /** All that it showed, in order: displays, figures and the result. */
  readonly results: readonly MimeBundle[];
  readonly stdout: string;
  readonly stderr: string;
  readonly error: { readonly name: string; readonly value: string; readonly traceback: readonly string[] } | null;
  readonly executionCount: number;
  readonly durationMs: number;
  /** Some of what it printed or showed was dropped. */
  readonly truncated: boolean;
  /** How the interpreter ended, when the status is `dead`. */
  readonly exitCode: number | null;
  readonly signal: string | null;
}

export class SandboxContext {
  /** Number within the sandbox, the same in every fork. */
  readonly context: number;
  readonly #host: SandboxHost;
  readonly #id: string;

  constructor(host: SandboxHost, id: string, context: number) {
    this.#host = host;
    this.#id = id;
    this.context = context;
  }

  /**
   * Runs a cell to its end. A second one, sent meanwhile, waits for its turn.
   * @throws {WarrenError} `context_not_found`; `wrong_state` – the context is dead; `queue_full`
   * @example
   * const ctx = await sb.contexts.create();
   * await ctx.run("x = 20");
   * (await ctx.run("x + 1")).text; // "21"
   */
  async run(code: string, options: CellOptions = {}): Promise<CellResult> {
    return collectCell(await this.stream(code, options));
  }

  /** A cell's events as they come, `end` last; leaving the loop early interrupts the cell. */
  stream(code: string, options: CellOptions = {}): Promise<AsyncIterable<CellEvent>> {
    const { signal, ...rest } = options;
    const run = { id: this.#id, context: this.context, code, ...rest };
    return this.#host.runCode(run, signal === undefined ? {} : { signal });
  }

  /** Interrupts the cell under way, if there is one. */
  interrupt(): Promise<void> {
    return this.#host.interruptContext({ id: this.#id, context: this.context });
  }

  /** Ends it and all that it has started. */
  close(): Promise<void> {
    return this.#host.closeContext({ id: this.#id, context: this.context });
  }
}

export class SandboxContexts {
  readonly #host: SandboxHost;
  readonly #id: string;

  constructor(host: SandboxHost, id: string) {
    this.#host = host;
    this.#id = id;
  }

  async create(options: ContextOptions = {}): Promise<SandboxContext> {
    const { signal, ...input } = options;
    const call = signal === undefined ? {} : { signal };
    const { context } = await this.#host.createContext({ id: this.#id, ...input }, call);
    return this.get(context);
  }

  /** A handle without asking whether there is such a context, for instance to the parent's in a fork. */
  get(context: number): SandboxContext {
    return new SandboxContext(this.#host, this.#id, context);
  }

  list(): Promise<ContextInfo[]> {
    return this.#host.contexts({ id: this.#id });
  }
}

async function collectCell(events: AsyncIterable<CellEvent>): Promise<CellResult> {
  const output = { stdout: [] as string[], stderr: [] as string[] };
  const results: MimeBundle[] = [];
  let text: string | null = null;
  let error: CellResult["error"] = null;
  for await (const event of events) {
    switch (event.kind) {
      case "stdout":
      case "stderr":
        output[event.kind].push(event.text);
        break;
      case "result":
        text = event.data["text/plain"] ?? null;
        results.push(event.data);
        break;
      case "display":
        results.push(event.data);
        break;
      case "error":
        error = { name: event.name, value: event.value, traceback: event.traceback };
        break;
      case "end": {
        const { kind: _, ...end } = event;
        return { ...end, text, results, error, stdout: output.stdout.join(""), stderr: output.stderr.join("") };
      }
    }
  }
  throw new WarrenError("guest_protocol", "the cell's events ended without its end");
}
