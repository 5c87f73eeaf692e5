/**
 * Text of a day or an instant → milliseconds since the Unix epoch. A day is its first instant in a time zone: where its
 * midnight is skipped that is the end of the gap, where it comes twice the first of the two. Pure.
 */
import { beginsMs, offsetMs } from "../../../base/days.ts";
import { WarrenError } from "../../../errors.ts";

/** Years that a clock of a host can be in, and that every part of a report can hold. */
const YEAR_MIN = 1970;
const YEAR_MAX = 2199;
const DAY_MS = 24 * 3600 * 1000;
/** A report about more is asked for in parts: three years, each of them leap. */
export const RANGE_DAYS_MAX = 3 * 366;

const DAY = /^(\d{4})-(\d{2})-(\d{2})$/;
const INSTANT = /^(\d{4}-\d{2}-\d{2})T(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(?:(Z)|([+-])(\d{2}):(\d{2}))$/;
const ALLOWED =
  "a day such as 2026-11-21, or an instant with its offset such as 2026-11-21T10:00:00Z or 2026-11-21T10:00:00+05:30";

function refusal(field: string, says: string): WarrenError {
  return new WarrenError("invalid_request", `${field}: ${says}`, { details: { field, allowed: ALLOWED } });
}

/** True of an IANA name, as `Europe/Berlin`; an offset such as `+02:00` is none, as its days know no summer. */
export function isTimeZone(name: string): boolean {
  if (!/^[A-Za-z][A-Za-z0-9_+/-]*$/.test(name)) return false;
  try {
    return Intl.DateTimeFormat("en-US", { timeZone: name }) !== null;
  } catch {
    return false; // a RangeError: not in this runtime's table
  }
}

/** Midnight in UTC of a day of the calendar; null when there is none. */
function utcDayMs(text: string): number | null {
  const [, year, month, day] = DAY.exec(text)?.map(Number) ?? [];
  if (year === undefined || month === undefined || day === undefined) return null;
  if (year < YEAR_MIN || year > YEAR_MAX) return null;
  const utcMs = Date.UTC(year, month - 1, day);
  return new Date(utcMs).toISOString().startsWith(text) ? utcMs : null;
}

/** True of a day of the calendar, `2026-11-21`. */
export function isDay(text: string): boolean {
  return utcDayMs(text) !== null;
}

/** @throws {WarrenError} `invalid_request` – naming `field`, what came and what is allowed */
export function momentMs(field: string, text: string, timeZone: string): number {
  const got = `got ${JSON.stringify(text.slice(0, 40))}`;
  const [day, clock] = [utcDayMs(text.slice(0, 10)), text.slice(10)];
  if (/^\d{4}-\d{2}-\d{2}/.test(text) && day === null)
    throw refusal(field, `${got}, no day of the years ${YEAR_MIN} to ${YEAR_MAX}; allowed is ${ALLOWED}`);
  if (day !== null && clock === "") return beginsMs(day, timeZone);
  const match = INSTANT.exec(text);
  if (day === null || match === null) {
    const isPlusLost = /^T[\d:.]+ \d{2}:\d{2}$/.test(clock);
    const isLocal = /^T[\d:.]+$/.test(clock);
    const why = isPlusLost ? " (a + in a URL is written %2B)" : isLocal ? " (its offset is missing)" : "";
    throw refusal(field, `${got}${why}, allowed is ${ALLOWED}`);
  }
  const [, , hour, minute, second = "0", fraction = "0", , sign, offsetHours = "0", offsetMinutes = "0"] = match;
  const inside = Number(hour) < 24 && Number(minute) < 60 && Number(second) < 60;
  if (!inside || Number(offsetHours) > 18 || Number(offsetMinutes) > 59)
    throw refusal(field, `${got}, no time of a day; allowed is ${ALLOWED}`);
  const ms = Math.floor(Number(`0.${fraction}`) * 1000);
  const offset = (Number(offsetHours) * 60 + Number(offsetMinutes)) * 60_000 * (sign === "-" ? -1 : 1);
  return day + ((Number(hour) * 60 + Number(minute)) * 60 + Number(second)) * 1000 + ms - offset;
}

/** First instant of the month that `nowMs` is in, in a zone; `monthsBack` of earlier ones. */
export function monthMs(nowMs: number, timeZone: string, monthsBack = 0): number {
  const local = new Date(nowMs + offsetMs(timeZone, nowMs));
  return beginsMs(Date.UTC(local.getUTCFullYear(), local.getUTCMonth() - monthsBack, 1), timeZone);
}

export interface Range {
  /** Milliseconds since the Unix epoch: from (inclusive) to (exclusive). */
  readonly fromMs: number;
  readonly toMs: number;
}

/**
 * What is asked for; both ends may be left out.
 * @throws {WarrenError} `invalid_request` – no moment, an end before its beginning, more than {@link RANGE_DAYS_MAX} days
 */
export function rangeOf(
  asked: { readonly from?: string; readonly to?: string },
  timeZone: string,
  defaults: Range,
): Range {
  const fromMs = asked.from === undefined ? defaults.fromMs : momentMs("from", asked.from, timeZone);
  const toMs = asked.to === undefined ? defaults.toMs : momentMs("to", asked.to, timeZone);
  const field = asked.to === undefined ? "from" : "to";
  const iso = (ms: number) => new Date(ms).toISOString();
  if (toMs < fromMs) {
    const till = asked.to === undefined ? "now, which is" : "to,";
    throw refusal(field, `from, ${iso(fromMs)}, is after ${till} ${iso(toMs)}`);
  }
  const days = (toMs - fromMs) / DAY_MS;
  if (days > RANGE_DAYS_MAX) {
    const says = `got ${Math.ceil(days)} days from ${iso(fromMs)} to ${iso(toMs)}, at most ${RANGE_DAYS_MAX} are allowed: ask in parts`;
    throw refusal(field, says);
  }
  return { fromMs, toMs };
}
