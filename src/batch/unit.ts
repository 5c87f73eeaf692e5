/**
 * Consecutive jobs that share one sandbox, most often just one: create, run, close, and again where the fault was not the
 * job's. A sandbox that broke is replaced for the jobs after it. Every job ends as exactly one result.
 */
import type { Egress, Secret } from "../contract/routes/network.ts";
import type { SandboxInfo } from "../contract/routes/sandboxes.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import type { Bill } from "./bill.ts";
import { blameCreate, blameRun } from "./blame.ts";
import type { Job } from "./items/item.ts";
import { type Row, rowOf } from "./row.ts";
import { type Attempt, type JobContext, runJob } from "./run-job.ts";

export interface Result {
  readonly job: Job;
  readonly row: Row;
  /** False when the row tells of a fault that was not the item's: running it again may well end otherwise. */
  readonly verdict: boolean;
}

export interface UnitContext extends JobContext {
  readonly create: {
    readonly template?: string;
    readonly cpu?: number;
    readonly memoryMb?: number;
    readonly egress: Egress;
    readonly secrets?: Secret[];
  };
  readonly ttlSeconds: number | null;
  readonly retry: number;
  readonly bill: Bill;
  /** Creates that failed since one succeeded, over all units. */
  readonly creates: { failedInARow: number };
  /** A job begins its first attempt. */
  readonly onStart: (job: Job) => void;
}

interface Box {
  readonly info: SandboxInfo;
  /** Jobs that began in it. */
  jobs: number;
  /** Monotonic clock up to which its time is charged to a job. */
  chargedMs: number;
}

/** What the attempts of one job have used up so far. */
interface Used {
  queuedMs: number;
  createMs: number;
  execMs: number;
  costUsd: number;
}

const NOTHING = { stdout: new Uint8Array(0), stderr: new Uint8Array(0), artifacts: [], exit: null };
const RETRY_PAUSE_MS = 250;

export class UnitRun {
  readonly #context: UnitContext;
  readonly #jobs: readonly Job[];
  readonly #signal: AbortSignal;
  #box: Box | null = null;

  constructor(context: UnitContext, jobs: readonly Job[], signal: AbortSignal) {
    this.#context = context;
    this.#jobs = jobs;
    this.#signal = signal;
  }

  /** @throws {WarrenError} – what ends the batch; the sandbox is closed in any case. */
  async run(emit: (position: number, result: Result) => void): Promise<void> {
    try {
      for (const [position, job] of this.#jobs.entries()) emit(position, await this.#job(job));
    } finally {
      await this.#close(null);
    }
  }

  async #job(job: Job): Promise<Result> {
    const used: Used = { queuedMs: 0, createMs: 0, execMs: 0, costUsd: 0 };
    this.#context.onStart(job);
    for (let tries = 0; ; ) {
      const box = await this.#open(used, tries);
      if (box instanceof WarrenError) {
        if (tries++ < this.#context.retry) continue;
        const problem = `no sandbox could be created: ${box.message}`;
        return { job, verdict: false, row: rowOf(job.id, { ...NOTHING, problem, timeoutSeconds: 0 }, used) };
      }
      const alone = box.jobs === 0;
      box.jobs += 1;
      if (job.outputPaths.length > 0) await this.#context.sink.reset(job.key);
      const attempt = await runJob(this.#context, box.info.id, job, this.#signal);
      const { blame, broken } = judged(attempt, alone);
      used.execMs = attempt.execMs;
      await this.#charge(box, used, broken);
      if (blame === "stop") throw attempt.fault?.cause;
      // With others before it, it was not alone: trying it alone costs none of its tries.
      const mayRetry = blame === "again" && (!alone || tries++ < this.#context.retry);
      if (!mayRetry) return { job, verdict: blame === "verdict", row: rowOf(job.id, attempt.ran, used) };
    }
  }

  /** The unit's sandbox, made when there is none; an error that allows another try is the answer. */
  async #open(used: Used, tries: number): Promise<Box | WarrenError> {
    if (this.#box !== null) return this.#box;
    const { host, clock, create, creates } = this.#context;
    if (tries > 0) await clock.sleep(RETRY_PAUSE_MS * 2 ** (tries - 1), this.#signal);
    const askedMs = clock.monotonicMs();
    try {
      const info = await host.create({ ...create, ttlSeconds: this.#ttlSeconds() }, { signal: this.#signal });
      creates.failedInARow = 0;
      const nowMs = clock.monotonicMs();
      const queuedMs = Math.max(0, nowMs - askedMs - info.createMs);
      used.queuedMs += queuedMs;
      used.createMs += info.createMs;
      this.#box = { info, jobs: 0, chargedMs: nowMs - info.createMs };
      return this.#box;
    } catch (cause) {
      if (this.#signal.aborted) throw this.#signal.reason;
      if (blameCreate(cause) === "stop") throw cause;
      creates.failedInARow += 1;
      if (creates.failedInARow >= LIMITS.batchCreateFailures) throw cause;
      return cause instanceof WarrenError ? cause : new WarrenError("internal", String(cause), { cause });
    }
  }

  #ttlSeconds(): number {
    const { ttlSeconds, timeoutSeconds } = this.#context;
    if (ttlSeconds !== null) return ttlSeconds;
    const timeouts = this.#jobs.reduce((sum, job) => sum + (job.timeoutSeconds ?? timeoutSeconds), 0);
    return Math.min(timeouts + LIMITS.batchTtlSlackSeconds, LIMITS.ttlSecondsMax);
  }

  /** Charges a sandbox's time to the job that used it: exactly, when it ends with the job, else by the clock. */
  async #charge(box: Box, used: Used, broken: boolean): Promise<void> {
    if (broken || this.#jobs.length === 1) {
      const isFirst = box.jobs === 1;
      const byClockUsd = this.#byClock(box);
      const exactUsd = await this.#close(box);
      used.costUsd += (isFirst ? exactUsd : null) ?? byClockUsd;
      return;
    }
    used.costUsd += this.#byClock(box);
  }

  #byClock(box: Box): number {
    const nowMs = this.#context.clock.monotonicMs();
    const ms = nowMs - box.chargedMs;
    box.chargedMs = nowMs;
    return this.#context.bill.estimate(box.info.cpu, box.info.memoryMb, ms);
  }

  /** USD of the whole sandbox, when the log of moves told. */
  async #close(box: Box | null): Promise<number | null> {
    const open = box ?? this.#box;
    if (open === null) return null;
    this.#box = null;
    try {
      await this.#context.host.close({ id: open.info.id });
    } catch (cause) {
      // Gone already is fine; anything else the sandbox's own deadline ends.
      if (!(cause instanceof WarrenError)) throw cause;
    }
    return this.#context.bill.costOf(open.info.id);
  }
}

function judged({ fault }: Attempt, alone: boolean): ReturnType<typeof blameRun> {
  return fault === null ? { blame: "verdict", broken: false } : blameRun(fault.stage, fault.cause, alone);
}
