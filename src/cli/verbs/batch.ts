/** `warren batch`: the main job. One sandbox per item, results as JSONL in item order, a summary with the price. */
import { LIMITS } from "../../limits.ts";
import { integer, mib, seconds } from "../arguments.ts";
import { type EgressFlags, egressOptions } from "../egress.ts";
import type { Define } from "../verb.ts";

export interface BatchFlags extends EgressFlags {
  readonly example?: boolean;
  readonly all?: boolean;
  readonly limit?: number;
  readonly template: string;
  readonly cpu?: number;
  readonly memory?: number;
  readonly concurrency?: number;
  readonly timeout: number;
  readonly ttl?: number;
  readonly chunk: number;
  readonly retry: number;
  readonly outputLimit: number;
  readonly out?: string;
  readonly artifacts?: string;
  readonly files?: string;
  readonly fresh?: boolean;
  readonly failOnError?: boolean;
  readonly quiet?: boolean;
  readonly json?: boolean;
}

const ABOUT = `Run each item of ITEMS, a JSONL file (- is stdin), in a microVM of its own.

An item is a JSON object with these members:
  id               names its row; required, each once
  code, cmd        the program, one of the two: Python, run by the template's
                   warm interpreter, or a command line for sh; in /work
  input            reaches the program on stdin and as /work/input.json: a
                   string as it is, any other value as JSON
  files            {path: content}; content is text, {"base64": …} or
                   {"local": path below --files}
  output_paths     files or directories to bring back, whatever the exit code
  timeout_seconds  in place of --timeout

Results are one JSON row per item, in item order. A failed item is a row, never
an end. The same command again runs only what is missing, also after a crash:
OUT.journal remembers, and may be watched; OUT appears when the batch ends.`;

const EXAMPLES = `
Examples:
  $ warren batch --example --limit 24
  $ warren batch items.jsonl
  $ warren batch items.jsonl --out results.jsonl --concurrency 8 --timeout 20s
  $ generate | warren batch - --out - > results.jsonl
  $ warren batch items.jsonl --fail-on-error --json | tail -1 | jq .summary

Ends with 0 when every item has its row, whatever the verdicts; --fail-on-error
makes that 1 when a row is not ok. 2 when lines of ITEMS could not be used (each
is named, the rest has run), 130 after Ctrl-C.`;

export const defineBatch: Define = (program, verb) => {
  const command = program
    .command("batch")
    .summary("run many programs, a microVM each")
    .description(ABOUT)
    .argument("[items]", "JSONL file of items; - reads stdin")
    .option("-o, --out <file>", "results; - is stdout, without resuming; default ITEMS.results.jsonl here")
    .option("-t, --template <name>", "what sandboxes are restored from", "code-interpreter")
    .option("-j, --concurrency <n>", "sandboxes at once; default two per core", integer(1, LIMITS.batchConcurrencyMax))
    .option("--timeout <time>", "for items that name none", seconds, LIMITS.batchTimeoutSeconds)
    .option("--ttl <time>", "hard end of each sandbox; default its items' timeouts and a slack", seconds)
    .option("--chunk <n>", "items that share a sandbox, one after another", integer(1, LIMITS.batchChunkMax), 1)
    .option("--retry <n>", "further tries after faults that are not the item's", integer(0, LIMITS.batchRetryMax), 1)
    .option("--cpu <n>", "vCPUs of each sandbox", integer(1, LIMITS.cpuMax))
    .option("--memory <mib>", "guest memory of each, for instance 512 or 2g", mib)
    .option("--files <dir>", "where items' local files are")
    .option("--artifacts <dir>", "where artifacts go; default OUT.artifacts")
    .option(
      "--output-limit <bytes>",
      "kept of each output stream",
      integer(0, LIMITS.outputBytesMax),
      LIMITS.batchOutputBytes,
    )
    .option("--limit <n>", "only the first n items", integer(1, Number.MAX_SAFE_INTEGER))
    .option("--example", "run the items that come with a checkout")
    .option("--all", "all of them, which --example does anyway without --limit")
    .option("--fresh", "begin anew: throw away what an earlier run left")
    .option("--fail-on-error", "end with 1 when a row is not ok")
    .option("-q, --quiet", "no line for each item")
    .option("--json", "rows and summary as JSON lines on stdout");
  egressOptions(command, "default none")
    .addHelpText("after", EXAMPLES)
    .action(async (items: string | undefined, flags: BatchFlags, command) => {
      if ((items === undefined) === (flags.example !== true)) command.error("error: give ITEMS, or --example");
      if (flags.all === true && flags.limit !== undefined) command.error("error: --all and --limit exclude each other");
      const { runBatch } = await import("../batch/run.ts");
      verb.code = await runBatch(verb, items ?? null, flags);
    });
};
