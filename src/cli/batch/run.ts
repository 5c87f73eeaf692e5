/** Drives one `warren batch`: template first, then the durable batch or, for `--out -`, one that only streams. */

import { escapeLine } from "../../base/escape.ts";
import { directorySink } from "../../batch/artifacts/sink.ts";
import { type BatchOptions, type BatchParts, runJobs } from "../../batch/batch.ts";
import { Bill } from "../../batch/bill.ts";
import { type DurableHooks, runDurable } from "../../batch/durable/durable.ts";
import { factsOf } from "../../batch/durable/journal.ts";
import { peakOf } from "../../batch/durable/peak.ts";
import type { Job } from "../../batch/items/item.ts";
import { localFilesIn, noLocalFiles } from "../../batch/items/local-files.ts";
import type { Row } from "../../batch/row.ts";
import { type Summary, Tally } from "../../batch/summary.ts";
import { WarrenError } from "../../errors.ts";
import { given } from "../arguments.ts";
import { withTemplate } from "../bake-first.ts";
import { egressOf } from "../egress.ts";
import { EXIT } from "../exits.ts";
import type { Opened } from "../ground/ground.ts";
import type { Io } from "../ground/io.ts";
import { Progress } from "../text/progress.ts";
import { interruptible, type Verb, withHost } from "../verb.ts";
import type { BatchFlags } from "../verbs/batch.ts";
import { type Source, sourceOf } from "./source.ts";
import { BatchView, rowLine, summaryText } from "./view.ts";

interface Run {
  readonly io: Io;
  readonly flags: BatchFlags;
  readonly source: Source;
  /** Null for stdout. */
  readonly out: string | null;
  readonly parts: BatchParts;
  readonly opened: Opened;
  readonly options: BatchOptions & { readonly signal: AbortSignal };
  readonly view: BatchView;
  readonly progress: Progress;
}

/** @throws {WarrenError} – what no item could have got past. */
export async function runBatch(verb: Verb, items: string | null, flags: BatchFlags): Promise<number> {
  const { io } = verb;
  const source = await sourceOf(io, items, flags.limit);
  const out = outOf(source, flags);
  const local = flags.files === undefined ? noLocalFiles : await localFilesIn(flags.files);
  const { template, cpu, memory: memoryMb, concurrency, ttl: ttlSeconds } = flags;
  return withHost(verb, true, (host, opened) =>
    interruptible(io, async (signal) => {
      await withTemplate(io, host, template, given({ cpu, memoryMb }), signal);
      const view = new BatchView(io.clock, source.total);
      await using progress = new Progress(io, () => view.status());
      const stopping = () => void progress.note("warren: stopping; finished rows are kept. Once more ends it at once");
      signal.addEventListener("abort", stopping, { once: true });
      const onStart = () => {
        view.started += 1;
      };
      const parts = {
        host,
        moves: (l: Parameters<Opened["moves"]>[0]) => opened.moves(l),
        cores: opened.cores,
        local,
        onStart,
      };
      const options = {
        template,
        timeoutSeconds: flags.timeout,
        chunk: flags.chunk,
        retry: flags.retry,
        outputBytes: flags.outputLimit,
        signal,
        ...given({ cpu, memoryMb, concurrency, ttlSeconds, egress: egressOf(flags, "none") ?? undefined }),
      };
      const run = { io, flags, source, out, parts, opened, options, view, progress };
      const summary = out === null ? await streamed(run) : await durable(run, out);
      await progress[Symbol.asyncDispose]();
      await tellSummary(run, summary);
      return exitCode(summary, flags);
    }),
  );
}

function outOf(source: Source, flags: BatchFlags): string | null {
  const out = flags.out ?? source.defaultOut;
  if (out === null) throw new WarrenError("invalid_request", "items on stdin need --out FILE, or --out - for stdout");
  return out === "-" ? null : out;
}

function exitCode(summary: Summary, flags: BatchFlags): number {
  if (summary.interrupted) return EXIT.interrupted;
  if (summary.bad_lines > 0) return EXIT.usage;
  return flags.failOnError === true && summary.ok < summary.rows ? EXIT.verdict : EXIT.ok;
}

function hooksOf({ io, flags, view, progress, source }: Run): DurableHooks {
  const onText = async (text: Uint8Array) => {
    await io.out.write(Buffer.concat([text, Buffer.from("\n")]));
  };
  return {
    onBadLine: (number, says) =>
      void progress.note(`warren: line ${number} of ${escapeLine(source.name)} ${escapeLine(says)}`),
    onDamage: (lines) =>
      void progress.note(`warren: ${lines} lines of the journal were damaged; their items run again`),
    onKept: () => {
      view.kept += 1;
    },
    onRow: (row) => {
      view.finished(row);
      if (flags.quiet === true) return;
      const line = rowLine(row, view.done + view.kept, source.total);
      void (flags.json === true ? progress.note(line) : progress.line(line));
    },
    ...(flags.json === true ? { onText } : {}),
  };
}

async function durable(run: Run, out: string): Promise<Summary> {
  const { io, flags, source, parts, opened, options } = run;
  const { lock } = await io.ground();
  return runDurable(
    { ...parts, clock: io.clock, lock, memoryMib: () => opened.memoryMib() },
    { items: source, out, options, fresh: flags.fresh === true, ...given({ artifacts: flags.artifacts }) },
    hooksOf(run),
  );
}

/** Rows to stdout in item order, nothing kept. */
async function streamed(run: Run): Promise<Summary> {
  const { io, flags, source, parts, opened, options, view, progress } = run;
  const { clock } = io;
  const tally = new Tally();
  const bill = new Bill();
  const artifacts = flags.artifacts ?? "artifacts";
  const startedMs = clock.monotonicMs();
  const peak = peakOf(clock, () => opened.memoryMib());
  const hooks = hooksOf(run);
  async function* jobs(): AsyncGenerator<Job> {
    for await (const line of source.read()) {
      if (line.kind === "job") {
        tally.items += 1;
        yield line.job;
        continue;
      }
      tally.badLines += 1;
      hooks.onBadLine?.(line.number, line.says);
    }
  }
  const tell = async (row: Row) => {
    tally.add(factsOf(row));
    view.finished(row);
    await io.out.write(`${JSON.stringify(row)}\n`);
    if (flags.quiet !== true && !io.out.isTty) await progress.note(rowLine(row, view.done, source.total));
  };
  try {
    const whole = { ...parts, clock, bill, sink: directorySink(artifacts, artifacts) };
    for await (const { row } of runJobs(whole, jobs(), { ...options, ordered: true })) await tell(row);
  } catch (cause) {
    if (!options.signal.aborted) throw cause;
  }
  return tally.summary({
    interrupted: options.signal.aborted,
    wallMs: clock.monotonicMs() - startedMs,
    peakMemoryMib: peak(),
    totals: bill.totals(),
  });
}

async function tellSummary({ io, flags, out }: Run, summary: Summary): Promise<void> {
  if (flags.json === true) return io.out.write(`${JSON.stringify({ summary })}\n`);
  const sink = out === null ? io.err : io.out;
  await sink.write(summaryText(summary, out ?? "stdout"));
}
