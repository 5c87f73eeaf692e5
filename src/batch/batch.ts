/**
 * `batch`: one job per item over anything that hosts sandboxes, results in item order or as they come. No HTTP, no
 * database, no disk: a durable batch is this with a journal around it.
 */
import { type Clock, systemClock } from "../base/clock.ts";
import type { Move } from "../contract/move.ts";
import type { Egress, Secret } from "../contract/routes/network.ts";
import type { SandboxHost } from "../contract/routes.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { type ArtifactSink, memorySink } from "./artifacts/sink.ts";
import { Bill } from "./bill.ts";
import { type Item, type Job, jobOf } from "./items/item.ts";
import { type LocalFiles, noLocalFiles } from "./items/local-files.ts";
import { pooled, type Unit } from "./pool.ts";
import type { Row } from "./row.ts";
import { type Result, UnitRun } from "./unit.ts";

export interface BatchOptions {
  readonly template?: string;
  readonly cpu?: number;
  readonly memoryMb?: number;
  /** Sandboxes at once; default two per core of this host. */
  readonly concurrency?: number;
  /** Seconds for items that name none; default {@link LIMITS.batchTimeoutSeconds}. */
  readonly timeoutSeconds?: number;
  /** Hard end of each sandbox, seconds from its create; default its items' timeouts and a slack. */
  readonly ttlSeconds?: number;
  /** Items that share one sandbox, one after another; default 1. */
  readonly chunk?: number;
  /** Further tries after a fault that was not the item's; default 1. */
  readonly retry?: number;
  /** Bytes kept of each output stream; default {@link LIMITS.batchOutputBytes}. */
  readonly outputBytes?: number;
  /** What may leave the sandboxes; default nothing: programs that nobody reviewed have no business outside. */
  readonly egress?: Egress;
  readonly secrets?: readonly Secret[];
  readonly signal?: AbortSignal;
}

/** What a batch stands on. */
export interface BatchParts {
  readonly host: SandboxHost;
  /** Calls the listener with every later lifecycle move; the result ends it. */
  readonly moves: (listener: (move: Move) => void) => () => void;
  readonly cores: number;
  readonly clock?: Clock;
  /** Default: artifacts come back as bytes in the row. */
  readonly sink?: ArtifactSink;
  /** Default: items may name no files of this host. */
  readonly local?: LocalFiles;
  /** Where the moves are counted; default a new one. */
  readonly bill?: Bill;
  readonly onStart?: (job: Job) => void;
}

function checked(name: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new WarrenError("invalid_request", `${name}: got ${value}, allowed is an integer from ${least} to ${most}`);
}

function seconds(name: string, value: number, most: number): number {
  if (value > 0 && value <= most) return value;
  throw new WarrenError("invalid_request", `${name}: got ${value}, allowed is more than 0 and at most ${most} seconds`);
}

/** Sandboxes at once when the caller does not say. */
export function defaultConcurrency(cores: number): number {
  return Math.max(2, Math.min(2 * cores, LIMITS.batchConcurrencyMax));
}

interface Settings {
  readonly concurrency: number;
  readonly chunk: number;
  readonly retry: number;
  readonly timeoutSeconds: number;
  readonly ttlSeconds: number | null;
  readonly outputBytes: number;
}

/** Every option checked, every default filled. @throws {WarrenError} `invalid_request` – naming the option. */
export function settingsOf(options: BatchOptions, cores: number): Settings {
  const { concurrency, chunk, retry, timeoutSeconds, ttlSeconds, outputBytes } = options;
  return {
    concurrency: checked("concurrency", concurrency ?? defaultConcurrency(cores), 1, LIMITS.batchConcurrencyMax),
    chunk: checked("chunk", chunk ?? 1, 1, LIMITS.batchChunkMax),
    retry: checked("retry", retry ?? 1, 0, LIMITS.batchRetryMax),
    timeoutSeconds: seconds("timeout", timeoutSeconds ?? LIMITS.batchTimeoutSeconds, LIMITS.timeoutSecondsMax),
    ttlSeconds: ttlSeconds === undefined ? null : seconds("ttl", ttlSeconds, LIMITS.ttlSecondsMax),
    outputBytes: checked("output limit", outputBytes ?? LIMITS.batchOutputBytes, 0, LIMITS.outputBytesMax),
  };
}

async function* units(jobs: AsyncIterable<Job>, chunk: number): AsyncGenerator<Unit<Job[]>> {
  let first = 0;
  let work: Job[] = [];
  for await (const job of jobs) {
    work.push(job);
    if (work.length < chunk) continue;
    yield { first, work };
    first += work.length;
    work = [];
  }
  if (work.length > 0) yield { first, work };
}

/**
 * Runs jobs; one result each, in their order or as they come.
 * @throws {WarrenError} – what no job could have got past: no such template, no rights, no space; the signal's reason.
 */
export async function* runJobs(
  parts: BatchParts,
  jobs: AsyncIterable<Job>,
  options: BatchOptions & { readonly ordered: boolean },
): AsyncGenerator<Result> {
  const settings = settingsOf(options, parts.cores);
  const { template, cpu, memoryMb } = options;
  const bill = parts.bill ?? new Bill();
  const context = {
    host: parts.host,
    clock: parts.clock ?? systemClock,
    sink: parts.sink ?? memorySink(),
    local: parts.local ?? noLocalFiles,
    bill,
    create: {
      ...(template === undefined ? {} : { template }),
      ...(cpu === undefined ? {} : { cpu }),
      ...(memoryMb === undefined ? {} : { memoryMb }),
      egress: options.egress ?? { mode: "none" },
      ...(options.secrets === undefined ? {} : { secrets: [...options.secrets] }),
    },
    ...settings,
    creates: { failedInARow: 0 },
    onStart: parts.onStart ?? (() => undefined),
  };
  const unsubscribe = parts.moves((move) => bill.add(move));
  try {
    yield* pooled(
      units(jobs, settings.chunk),
      ({ first, work }, emit, signal) =>
        new UnitRun(context, work, signal).run((position, result) => emit(first + position, result)),
      {
        concurrency: settings.concurrency,
        window: settings.concurrency * Math.max(LIMITS.batchHeldPerLane, settings.chunk),
        ordered: options.ordered,
        signal: options.signal,
      },
    );
  } finally {
    unsubscribe();
  }
}

/** Items as jobs, each id once. @throws {WarrenError} `invalid_request` – naming the item. */
async function* jobsOf(items: Iterable<Item> | AsyncIterable<Item>): AsyncGenerator<Job> {
  const seen = new Map<string, number>();
  let number = 0;
  for await (const item of items) {
    number += 1;
    const job = jobAt(item, number);
    const before = seen.get(job.key);
    if (before !== undefined) {
      throw new WarrenError(
        "invalid_request",
        `item ${number} repeats the id ${JSON.stringify(job.key)} of item ${before}`,
      );
    }
    seen.set(job.key, number);
    yield job;
  }
}

function jobAt(item: Item, number: number): Job {
  try {
    return jobOf(item);
  } catch (cause) {
    if (!(cause instanceof WarrenError)) throw cause;
    throw new WarrenError(cause.code, `item ${number}: ${cause.message}`, { details: cause.details, cause });
  }
}

/**
 * Runs each item in a sandbox of its own and yields its row, in item order; artifacts come as bytes. A failed item is a row.
 * @throws {WarrenError} `invalid_request` – an item or option that cannot be used; else what no item could have got past.
 */
export async function* batch(
  parts: BatchParts,
  items: Iterable<Item> | AsyncIterable<Item>,
  options: BatchOptions = {},
): AsyncGenerator<Row> {
  for await (const { row } of runJobs(parts, jobsOf(items), { ...options, ordered: true })) yield row;
}
