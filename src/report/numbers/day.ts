/** Days as an account has them: dates of its own time zone, some of which have 23 or 25 hours. */
import { WarrenError } from "../../errors.ts";

/** As much of Temporal as is used; the language's types do not have it yet. */
interface Zoned {
  readonly hoursInDay: number;
  toPlainDate(): { toString(): string };
  startOfDay(): { toInstant(): { toString(): string } };
}
interface TemporalHere {
  readonly Instant: { from(text: string): { toZonedDateTimeISO(zone: string): Zoned } };
  readonly PlainDate: { from(text: string): { toZonedDateTime(zone: string): Zoned } };
}
const { Temporal } = globalThis as unknown as { Temporal: TemporalHere };

function refused<T>(what: string, come: string, ask: () => T): T {
  try {
    return ask();
  } catch (cause) {
    throw new WarrenError("invalid_request", `${what}, and is ${JSON.stringify(come)}`, {
      details: { got: come },
      cause,
    });
  }
}

/**
 * The date on which an instant is in a time zone: 2026-11-21T23:30:00Z is `2026-11-22` in Asia/Kolkata.
 * @throws {WarrenError} `invalid_request` – no instant with its offset, or no time zone of IANA's.
 */
export function localDay(instant: string, timeZone: string): string {
  return refused("an instant has to be ISO 8601 with its offset, in a known time zone", `${instant} ${timeZone}`, () =>
    Temporal.Instant.from(instant).toZonedDateTimeISO(timeZone).toPlainDate().toString(),
  );
}

/** Hours from a day's beginning to the next day's, in a time zone: 24, and 23 or 25 when clocks are set. */
export function hoursOfDay(day: string, timeZone: string): number {
  return refused(
    "a day has to be a date, in a known time zone",
    `${day} ${timeZone}`,
    () => Temporal.PlainDate.from(day).toZonedDateTime(timeZone).hoursInDay,
  );
}

/** The day as a row's label: `2026-03-29 (23 h)` where it is not as long as others. */
export function dayLabel(day: string, timeZone: string): string {
  const hours = hoursOfDay(day, timeZone);
  return hours === 24 ? day : `${day} (${Number(hours.toFixed(2))} h)`;
}

const MONTHS = "January February March April May June July August September October November December".split(" ");

/** A date in words: `2026-11-21` → `21 November 2026`. */
export function longDate(day: string): string {
  const [year = "", month = "", date = ""] = day.slice(0, 10).split("-");
  return `${Number(date)} ${MONTHS[Number(month) - 1] ?? month} ${year}`;
}

/** First and last day of a month: `2026-02` → `1 – 28 February 2026`. */
export function monthSpan(month: string): string {
  const [year = "", number = ""] = month.split("-");
  const last = new Date(Date.UTC(Number(year), Number(number), 0)).getUTCDate();
  return `1 – ${last} ${MONTHS[Number(number) - 1] ?? number} ${year}`;
}

/** So many days after an instant, as a date of UTC. */
export function daysAfter(instant: string, days: number): string {
  return new Date(Date.parse(instant) + days * 86_400_000).toISOString().slice(0, 10);
}
