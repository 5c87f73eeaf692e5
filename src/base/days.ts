/**
 * Days of a time zone, as instants. Every day begins once: at the first of two midnights where clocks were set back over it, at
 * the end of the gap where it was skipped. One table of zones, this runtime's, whichever database is asked about the days.
 */

const DAY_MS = 24 * 3600 * 1000;

const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(timeZone: string): Intl.DateTimeFormat {
  let format = formats.get(timeZone);
  if (format === undefined) {
    const two = "2-digit" as const;
    format = new Intl.DateTimeFormat("en-US", {
      ...{ timeZone, hourCycle: "h23", year: "numeric", month: two, day: two, hour: two, minute: two, second: two },
    });
    formats.set(timeZone, format);
  }
  return format;
}

/**
 * What a zone's clocks show beyond UTC at an instant, milliseconds.
 * @throws {RangeError} there is no such time zone
 */
export function offsetMs(timeZone: string, atMs: number): number {
  const parts = new Map(
    formatOf(timeZone)
      .formatToParts(atMs)
      .map(({ type, value }) => [type, Number(value)]),
  );
  const of = (type: Intl.DateTimeFormatPartTypes): number => parts.get(type) ?? 0;
  const shown = Date.UTC(of("year"), of("month") - 1, of("day"), of("hour"), of("minute"), of("second"));
  return shown - Math.floor(atMs / 1000) * 1000;
}

/** First instant in a zone of the day that begins at `utcMs` in UTC. A day that the zone never had begins with the next one. */
export function beginsMs(utcMs: number, timeZone: string): number {
  const before = offsetMs(timeZone, utcMs - DAY_MS);
  const offsets = [before, offsetMs(timeZone, utcMs), offsetMs(timeZone, utcMs + DAY_MS)];
  const midnights = offsets.map((offset) => utcMs - offset).filter((at) => at + offsetMs(timeZone, at) === utcMs);
  return midnights.length === 0 ? utcMs - before : Math.min(...midnights);
}

export interface LocalDay {
  /** `2026-11-21`, as the zone's calendars have it. */
  readonly day: string;
  /** Its first instant, milliseconds since the Unix epoch. */
  readonly fromMs: number;
}

/** The days of a zone that have a part of `[fromMs, toMs)`, in their order. */
export function daysWithin(fromMs: number, toMs: number, timeZone: string): LocalDay[] {
  const days: LocalDay[] = [];
  const first = Math.floor((fromMs + offsetMs(timeZone, fromMs)) / DAY_MS) * DAY_MS;
  // The day before too: clocks that are set back over midnight show an earlier day again.
  let next = beginsMs(first - DAY_MS, timeZone);
  for (let utcMs = first - DAY_MS; next < toMs; utcMs += DAY_MS) {
    const begins = next;
    next = beginsMs(utcMs + DAY_MS, timeZone);
    if (next > begins && next > fromMs) days.push({ day: new Date(utcMs).toISOString().slice(0, 10), fromMs: begins });
  }
  return days;
}
