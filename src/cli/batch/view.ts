/** A batch for people: a line for each item, how far it is, and what it came to. All of a guest's text is escaped. */

import type { Clock } from "../../base/clock.ts";
import { escapeLine } from "../../base/escape.ts";
import type { Row } from "../../batch/row.ts";
import type { Summary } from "../../batch/summary.ts";
import { clip, duration, usd } from "../text/format.ts";
import { bar, Rate } from "../text/progress.ts";

const ERROR_COLUMNS = 100;
const BAR_CELLS = 20;

/** One finished item. */
export function rowLine(row: Row, done: number, total: number | null): string {
  const of = total === null ? String(done) : `${String(done).padStart(String(total).length)}/${total}`;
  const verdict = row.ok ? "ok     " : row.timed_out ? "timeout" : "failed ";
  const times = `create ${duration(row.create_ms)}, run ${duration(row.exec_ms)}`;
  const files =
    row.artifacts.length === 0 ? "" : `, ${row.artifacts.length} file${row.artifacts.length === 1 ? "" : "s"}`;
  const error = row.error === null ? "" : `  ${clip(escapeLine(row.error), ERROR_COLUMNS)}`;
  return `${of}  ${verdict}  ${escapeLine(String(row.id))}  (${times}${files})${error}`;
}

function many(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

export class BatchView {
  readonly #clock: Clock;
  readonly #total: number | null;
  readonly #rate = new Rate();
  done = 0;
  kept = 0;
  started = 0;
  failed = 0;

  constructor(clock: Clock, total: number | null) {
    this.#clock = clock;
    this.#total = total;
    this.#rate.add(clock.monotonicMs(), 0);
  }

  finished(row: Row): void {
    this.done += 1;
    if (!row.ok) this.failed += 1;
    this.#rate.add(this.#clock.monotonicMs(), this.done);
  }

  /** `[####....] 12/24, 2 failed, 4 running, 1.3/s, about 9 s left`. */
  status(): string {
    const at = this.done + this.kept;
    const rate = this.#rate.perSecond(this.#clock.monotonicMs());
    const left = this.#total === null ? 0 : this.#total - at;
    const parts = [
      this.#total === null ? `${at} done` : `${at}/${this.#total} done`,
      this.failed === 0 ? "" : `${this.failed} failed`,
      `${this.started - this.done} running`,
      rate === 0 ? "" : `${rate < 10 ? rate.toFixed(1) : Math.round(rate)}/s`,
      rate === 0 || left === 0 ? "" : `about ${duration((left / rate) * 1000)} left`,
    ].filter((part) => part !== "");
    const drawn = this.#total === null ? "" : `[${bar(at / Math.max(1, this.#total), BAR_CELLS)}] `;
    return `warren: ${drawn}${parts.join(", ")}`;
  }
}

function spread(name: string, values: Summary["create_ms"]): string[] {
  if (values === null) return [];
  return [`  ${name.padEnd(9)} p50 ${duration(values.p50)}, p99 ${duration(values.p99)}`];
}

/** The end of a batch, in a few lines. */
export function summaryText(summary: Summary, where: string): string {
  const { rows, ok, failed, timed_out, kept, bad_lines, missing } = summary;
  const ran = rows - kept;
  const perSecond = summary.wall_s > 0 ? `, ${(ran / summary.wall_s).toFixed(2)} items/s` : "";
  const peak = summary.peak_memory_mib === null ? "" : `, peak memory ${Math.round(summary.peak_memory_mib)} MiB`;
  const used = `${summary.vcpu_seconds.toFixed(2)} vCPU-seconds, ${summary.gib_seconds.toFixed(2)} GiB-seconds`;
  return [
    `${many(rows, "item")}: ${ok} ok, ${failed} failed, ${timed_out} timed out`,
    ...(kept > 0 ? [`  kept      ${many(kept, "row")} of an earlier run; --fresh runs all again`] : []),
    ...(bad_lines > 0 ? [`  not used  ${many(bad_lines, "line")}, named above`] : []),
    ...(missing > 0 ? [`  missing   ${many(missing, "item")}; the same command runs what is missing`] : []),
    ...spread("create", summary.create_ms),
    ...spread("run", summary.exec_ms),
    `  wall      ${duration(summary.wall_s * 1000)}${perSecond}${peak}`,
    `  used      ${used}`,
    `  price     ${usd(summary.cost_usd)}`,
    `  results   ${escapeLine(where)}`,
    "",
  ].join("\n");
}
