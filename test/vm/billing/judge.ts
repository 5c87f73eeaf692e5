/** What a sandbox is charged for against when its machines ran: more by no millisecond, less by no more than crashes may cost. */
import { LIMITS } from "../../../src/limits.ts";
import type { Machine, Watch } from "./watch.ts";

/** A stretch of CLOCK_MONOTONIC, milliseconds. */
export interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

export interface Verdict {
  readonly id: string;
  readonly billedMs: number;
  /** Charged while no machine of it can have run. */
  readonly overMs: number;
  /** Run for certain, and not charged. */
  readonly underMs: number;
  /** Servers that were killed in its time. */
  readonly crashes: number;
  readonly isRight: boolean;
}

function at(machine: Machine, does: "resume" | "resumed"): number | undefined {
  return machine.marks.find((mark) => mark.does === does)?.atMs;
}

/** The longest that it can have run. */
export function longest(machine: Machine): Span {
  return { fromMs: at(machine, "resume") ?? Infinity, toMs: machine.goneMs ?? Infinity };
}

/** The shortest that it must be charged for: from the first resume known to be done to the last sign of life, or a wish for its end. */
export function shortest(machine: Machine, asked: readonly number[]): Span {
  const fromMs = at(machine, "resumed") ?? Infinity;
  const ends = asked.filter((ms) => ms >= fromMs && ms <= (machine.goneMs ?? Infinity));
  return { fromMs, toMs: Math.min(machine.aliveMs, ...ends) };
}

function lengthOf({ fromMs, toMs }: Span): number {
  return Math.max(0, toMs - fromMs);
}

/** The longest that its guest can have run: not between a pause that was done and the next resume. */
export function awake(machine: Machine): Span[] {
  const spans: Span[] = [];
  let fromMs: number | null = null;
  for (const { does, atMs } of machine.marks) {
    if (does === "resume") fromMs ??= atMs;
    if (does !== "paused" || fromMs === null) continue;
    spans.push({ fromMs, toMs: atMs });
    fromMs = null;
  }
  return fromMs === null ? spans : [...spans, { fromMs, toMs: machine.goneMs ?? Infinity }];
}

/** How much of `span` is in none of `within`, which do not overlap. */
export function outside(span: Span, within: readonly Span[]): number {
  const inside = within.map(({ fromMs, toMs }) =>
    lengthOf({ fromMs: Math.max(fromMs, span.fromMs), toMs: Math.min(toMs, span.toMs) }),
  );
  return lengthOf(span) - inside.reduce((sum, each) => sum + each, 0);
}

/** What is charged of one, on CLOCK_MONOTONIC. */
export interface Billed {
  readonly running: readonly Span[];
  readonly paused: readonly Span[];
}

export function judged(id: string, watch: Watch, { running, paused }: Billed): Verdict {
  const billed = [...running, ...paused];
  const machines = watch.of(id);
  const possible = machines.map(longest);
  const certain = machines.map((machine) => shortest(machine, watch.asked.get(id) ?? []));
  const sum = (spans: readonly Span[]) => spans.reduce((all, span) => all + lengthOf(span), 0);
  const billedMs = sum(billed);
  // Sums of floating-point numbers near 10^9: a microsecond is none.
  const whileStill = watch.slept.has(id) ? [] : running.map((span) => outside(span, machines.flatMap(awake)));
  const overMs = tidy(
    Math.max(billedMs - sum(possible), ...billed.map((span) => outside(span, possible)), ...whileStill),
  );
  const underMs = tidy(sum(certain) - billedMs);
  const [beganMs, overAtMs] = [
    Math.min(...possible.map((span) => span.fromMs)),
    Math.max(...possible.map((s) => s.toMs)),
  ];
  const crashes = watch.crashes.filter((ms) => ms >= beganMs && ms <= overAtMs).length;
  const isRight = overMs <= 0 && underMs <= LIMITS.heartbeatMs * Math.max(1, crashes);
  return { id, billedMs, overMs, underMs, crashes, isRight };
}

function tidy(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
