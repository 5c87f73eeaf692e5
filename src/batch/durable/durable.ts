/**
 * A batch that survives its process: items from a stream, rows into a journal as they finish, and at the end one file of
 * rows in item order, which appears whole or not at all. The same call again runs only what is missing: items without a
 * row, with a row that was not their verdict, or that changed. One process at a time has an output.
 */
import { rm } from "node:fs/promises";
import { dirname, relative } from "node:path";
import { systemClock } from "../../base/clock.ts";
import { directorySink } from "../artifacts/sink.ts";
import { type BatchOptions, type BatchParts, runJobs, settingsOf } from "../batch.ts";
import { Bill } from "../bill.ts";
import { digestOf } from "../items/digest.ts";
import type { Job } from "../items/item.ts";
import type { Line } from "../items/lines.ts";
import { noLocalFiles } from "../items/local-files.ts";
import type { Row } from "../row.ts";
import { type Summary, Tally } from "../summary.ts";
import { type BatchSettings, type Entry, Journal } from "./journal.ts";
import { lockOutput, refuseForeign, startAnew, type TryLock } from "./output.ts";
import { peakOf } from "./peak.ts";
import { type Slot, writeResults } from "./results.ts";

export interface DurableAsk {
  readonly items: {
    readonly read: () => AsyncIterable<Line>;
    /** `read` gives the same again: not so for a pipe. */
    readonly again: boolean;
  };
  /** The results, JSONL in item order; `OUT.journal` and `OUT.artifacts` stand beside it. */
  readonly out: string;
  /** Default `OUT.artifacts`. */
  readonly artifacts?: string;
  /** Throws away what an earlier run left. */
  readonly fresh?: boolean;
  readonly options: BatchOptions;
}

export interface DurableParts extends BatchParts {
  readonly lock: TryLock;
  /** Memory of this host's sandboxes now, MiB; null where it cannot be told. */
  readonly memoryMib?: () => number | null;
}

/** Told as it happens. A row's texts come from a guest: escape them before showing. */
export interface DurableHooks {
  readonly onBadLine?: (number: number, says: string) => void;
  readonly onKept?: (job: Job) => void;
  readonly onRow?: (row: Row) => void;
  /** Rows' JSON in item order, as early as that order allows. */
  readonly onText?: (text: Uint8Array) => Promise<void>;
  /** The journal held lines that could not be read; their items run again. */
  readonly onDamage?: (lines: number) => void;
}

class Durable {
  readonly tally = new Tally();
  readonly #journal: Journal;
  readonly #ask: DurableAsk;
  readonly #parts: BatchParts;
  readonly #hooks: DurableHooks;
  /** One per item, in item order. */
  #slots: Slot[] = [];
  /** Those that run now. */
  readonly #running = new Map<string, { readonly slot: Slot; readonly digest: string }>();
  #told = 0;

  constructor(journal: Journal, ask: DurableAsk, parts: BatchParts, hooks: DurableHooks) {
    this.#journal = journal;
    this.#ask = ask;
    this.#parts = parts;
    this.#hooks = hooks;
  }

  async run(): Promise<void> {
    const options = { ...this.#ask.options, ordered: false };
    for await (const { job, row, verdict } of runJobs(this.#parts, this.#missing(), options)) {
      const running = this.#running.get(job.key);
      if (running === undefined) throw new Error(`a result of ${job.key}, which does not run`);
      running.slot.entry = await this.#journal.row(job.key, running.digest, verdict, row);
      this.#running.delete(job.key);
      this.tally.add(running.slot.entry.facts);
      this.#hooks.onRow?.(row);
      await this.#tellInOrder();
    }
    await this.#tellInOrder();
  }

  /** The jobs that have no row; those that have one are counted on the way. */
  async *#missing(): AsyncGenerator<Job> {
    for await (const line of this.#ask.items.read()) {
      if (line.kind === "bad") {
        this.tally.badLines += 1;
        this.#hooks.onBadLine?.(line.number, line.says);
        continue;
      }
      const { job } = line;
      const { digest, entry } = await this.#lookUp(job);
      const slot: Slot = { entry: entry?.verdict === true ? entry : null };
      this.#slots.push(slot);
      this.tally.items += 1;
      if (slot.entry === null) {
        this.#running.set(job.key, { slot, digest });
        yield job;
        continue;
      }
      this.tally.kept += 1;
      this.tally.add(slot.entry.facts);
      this.#hooks.onKept?.(job);
    }
  }

  /** The row of an item as it is now, if the journal has one. */
  async #lookUp(job: Job): Promise<{ readonly digest: string; readonly entry: Entry | null }> {
    const digest = await digestOf(job, this.#parts.local ?? noLocalFiles);
    const entry = this.#journal.find(job.key);
    return { digest, entry: entry?.digest === digest ? entry : null };
  }

  /** After a stop: items that were not reached may have rows of an earlier run, and those belong to the results too. */
  async reachAll(): Promise<void> {
    if (!this.#ask.items.again) return;
    const slots: Slot[] = [];
    for await (const line of this.#ask.items.read()) {
      if (line.kind === "job") slots.push({ entry: (await this.#lookUp(line.job)).entry });
    }
    this.#slots = slots;
    this.tally.items = slots.length;
  }

  get rows(): number {
    return this.#slots.filter((slot) => slot.entry !== null).length;
  }

  async #tellInOrder(): Promise<void> {
    if (this.#hooks.onText === undefined) return;
    for (; this.#told < this.#slots.length; this.#told++) {
      const entry = this.#slots[this.#told]?.entry;
      if (entry === null || entry === undefined) return;
      await this.#hooks.onText(await this.#journal.read(entry));
    }
  }

  writeOut(): Promise<void> {
    return writeResults(this.#ask.out, this.#journal, this.#slots);
  }
}

function journalSettings(options: BatchOptions, cores: number): BatchSettings {
  const { timeoutSeconds, chunk } = settingsOf(options, cores);
  const { template = null, cpu = null, memoryMb = null, egress } = options;
  const network = egress === undefined ? {} : { egress: JSON.stringify(egress) };
  return { template, cpu, memory: memoryMb, timeout: timeoutSeconds, chunk, ...network };
}

/**
 * Runs a durable batch to its end, or to the signal's abort, which is no error here: what has finished is then in `out`.
 * @throws {WarrenError} `already_exists` – another process has this output, or something else stands there;
 * `invalid_request` – begun with other settings; what no item could have got past (finished rows are kept all the same).
 */
export async function runDurable(parts: DurableParts, ask: DurableAsk, hooks: DurableHooks = {}): Promise<Summary> {
  const clock = parts.clock ?? systemClock;
  const settings = journalSettings(ask.options, parts.cores);
  const journalPath = `${ask.out}.journal`;
  const artifacts = ask.artifacts ?? `${ask.out}.artifacts`;
  if (ask.fresh !== true) await refuseForeign(ask.out, journalPath);
  using _lock = await lockOutput(parts.lock, ask.out, journalPath);
  if (ask.fresh === true) await startAnew(ask.out, journalPath, artifacts);
  const bill = new Bill();
  await using journal = await Journal.open(journalPath, settings, bill, clock);
  if (journal.damaged > 0) hooks.onDamage?.(journal.damaged);
  const startedMs = clock.monotonicMs();
  const peak = peakOf(clock, parts.memoryMib ?? (() => null));
  const sink = directorySink(artifacts, relative(dirname(ask.out), artifacts));
  const durable = new Durable(journal, ask, { ...parts, clock, bill, sink }, hooks);
  const stopped = await runUntilStopped(durable, journal, parts, ask.options.signal);
  if (stopped !== null) await durable.reachAll();
  const interrupted = stopped !== null && ask.options.signal?.aborted === true;
  if (stopped !== null && !interrupted && journal.size === 0) await rm(journalPath, { force: true });
  else if (stopped === null || durable.rows > 0) await durable.writeOut();
  if (stopped !== null && !interrupted) throw stopped.cause;
  return durable.tally.summary({
    interrupted,
    wallMs: clock.monotonicMs() - startedMs,
    peakMemoryMib: peak(),
    totals: bill.totals(),
  });
}

/** Null at the end of the items, else why it stopped before. */
async function runUntilStopped(
  durable: Durable,
  journal: Journal,
  parts: DurableParts,
  signal: AbortSignal | undefined,
): Promise<{ readonly cause: unknown } | null> {
  const unsubscribe = parts.moves((move) => journal.move(move));
  try {
    signal?.throwIfAborted();
    await durable.run();
    return null;
  } catch (cause) {
    return { cause };
  } finally {
    unsubscribe();
  }
}
