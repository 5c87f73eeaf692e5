/**
 * Best of N: every candidate runs in a fork of one sandbox, all from the same instant; outcomes are scored, the winner stays
 * and the others end. Built on forks alone, so it is the same in process and over HTTP.
 */
import { systemClock } from "../base/clock.ts";
import { WarrenError } from "../errors.ts";
import type { Sandbox } from "../sandbox.ts";
import type { ExecResult } from "./collect.ts";

/** One way to try: a shell command, or a function that drives the fork. */
export interface Candidate {
  readonly label: string;
  readonly cmd?: string;
  /** Runs instead of `cmd`; what it returns becomes the outcome's `value`. */
  readonly run?: (fork: Sandbox) => Promise<unknown>;
  readonly timeoutSeconds?: number;
  readonly env?: Readonly<Record<string, string>>;
}

export interface Outcome {
  readonly label: string;
  readonly sandbox: Sandbox;
  /** It ended, and its command with 0. */
  readonly ok: boolean;
  /** From `score`; without one 1 when it is ok, else 0. */
  readonly score: number;
  /** The command's result; null for a function. */
  readonly result: ExecResult | null;
  /** What the function returned. */
  readonly value: unknown;
  /** Why it could not be run, or not be scored; null when nothing went wrong. */
  readonly error: string | null;
  readonly durationMs: number;
}

export interface ExploreOptions {
  readonly score?: (fork: Sandbox, outcome: Omit<Outcome, "score">) => number | Promise<number>;
  /** Of the outcomes that may win; default `max`, the earliest of equals. */
  readonly select?: "max" | "min" | ((outcomes: readonly Outcome[]) => Outcome);
  /** Outcomes that are not ok may win too. */
  readonly allowFailed?: boolean;
  /** Candidates that run at once; default all. Every fork is of the same instant all the same. */
  readonly concurrency?: number;
  /** Keeps the losers too; then they are the caller's to close. */
  readonly keepLosers?: boolean;
  readonly ttlSeconds?: number;
  readonly onOutcome?: (outcome: Outcome) => void;
  readonly signal?: AbortSignal;
}

export interface Exploration {
  readonly treeId: string;
  /** An ordinary sandbox from here on, the caller's to close; null when none may win. */
  readonly winner: Sandbox | null;
  readonly winnerOutcome: Outcome | null;
  /** In the order of the candidates. */
  readonly outcomes: readonly Outcome[];
  /** Ids of losers that were ended. */
  readonly reaped: readonly string[];
  /** Losers that could not be: id → why. */
  readonly failures: Readonly<Record<string, string>>;
}

/** @throws {WarrenError} `invalid_request` – no candidates, or two of one label; as `forkTree` does */
export async function explore(
  parent: Sandbox,
  candidates: readonly (Candidate | string)[],
  options: ExploreOptions = {},
): Promise<Exploration> {
  const list = checked(candidates);
  const { ttlSeconds, signal } = options;
  const { treeId, children } = await parent.forkTree(list.length, {
    ...(ttlSeconds === undefined ? {} : { ttlSeconds }),
    ...(signal === undefined ? {} : { signal }),
  });
  try {
    const outcomes = await runAll(list, children, options);
    const winnerOutcome = pick(outcomes, options);
    if (options.keepLosers === true) {
      return { treeId, winner: winnerOutcome?.sandbox ?? null, winnerOutcome, outcomes, reaped: [], failures: {} };
    }
    if (winnerOutcome === null) {
      await Promise.all(children.map((child) => child.close()));
      const reaped = children.map(({ id }) => id);
      return { treeId, winner: null, winnerOutcome, outcomes, reaped, failures: {} };
    }
    const { deleted, failures } = await winnerOutcome.sandbox.promote({ treeId, cleanupSiblings: true });
    return { treeId, winner: winnerOutcome.sandbox, winnerOutcome, outcomes, reaped: deleted, failures };
  } catch (cause) {
    await Promise.allSettled(children.map((child) => child.close()));
    throw cause;
  }
}

function checked(candidates: readonly (Candidate | string)[]): readonly Candidate[] {
  const list = candidates.map((one) => (typeof one === "string" ? { label: one, cmd: one } : one));
  const wrong = (says: string): WarrenError =>
    new WarrenError("invalid_request", `candidates: ${says}`, { details: { field: "candidates" } });
  if (list.length === 0) throw wrong("at least one is needed");
  if (new Set(list.map(({ label }) => label)).size < list.length) throw wrong("every label may be used once");
  for (const { label, cmd, run } of list) {
    if ((cmd === undefined) === (run === undefined)) throw wrong(`${label}: either cmd or run is needed`);
  }
  return list;
}

async function runAll(
  candidates: readonly Candidate[],
  children: readonly Sandbox[],
  options: ExploreOptions,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < candidates.length) {
      const at = next++;
      outcomes[at] = await tryOne(candidates[at]!, children[at]!, options);
      options.onOutcome?.(outcomes[at]);
    }
  };
  const atOnce = Math.max(1, Math.min(options.concurrency ?? candidates.length, candidates.length));
  await Promise.all(Array.from({ length: atOnce }, worker));
  return outcomes;
}

async function tryOne(candidate: Candidate, sandbox: Sandbox, { score, signal }: ExploreOptions): Promise<Outcome> {
  const startMs = systemClock.monotonicMs();
  let result: ExecResult | null = null;
  let value: unknown;
  let error: string | null = null;
  try {
    signal?.throwIfAborted();
    if (candidate.run !== undefined) value = await candidate.run(sandbox);
    else result = await sandbox.exec(candidate.cmd ?? "", execOptions(candidate, signal));
  } catch (cause) {
    error = messageOf(cause);
  }
  const ok = error === null && (result === null || result.exitCode === 0);
  const outcome = {
    label: candidate.label,
    sandbox,
    ok,
    result,
    value,
    error,
    durationMs: systemClock.monotonicMs() - startMs,
  };
  if (score === undefined) return { ...outcome, score: ok ? 1 : 0 };
  try {
    return { ...outcome, score: await score(sandbox, outcome) };
  } catch (cause) {
    return { ...outcome, ok: false, error: error ?? `it could not be scored: ${messageOf(cause)}`, score: 0 };
  }
}

function execOptions({ timeoutSeconds, env }: Candidate, signal: AbortSignal | undefined) {
  return {
    ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
    ...(env === undefined ? {} : { env }),
    ...(signal === undefined ? {} : { signal }),
  };
}

function pick(outcomes: readonly Outcome[], { select = "max", allowFailed = false }: ExploreOptions): Outcome | null {
  const may = outcomes.filter(({ ok, score }) => (ok || allowFailed) && !Number.isNaN(score));
  if (may.length === 0) return null;
  if (typeof select === "function") return select(may);
  const sign = select === "max" ? 1 : -1;
  return may.reduce((best, one) => (sign * one.score > sign * best.score ? one : best));
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
