/** Kinds of columns that PostgreSQL's own do not cover. */
import { customType } from "drizzle-orm/pg-core";

/** `timestamptz` as milliseconds since the Unix epoch. Sessions are in UTC and ISO style; what is below a millisecond is not read. */
export const instant = customType<{ data: number; driverData: string }>({
  dataType: () => "timestamp with time zone",
  toDriver: (ms) => new Date(ms).toISOString(),
  fromDriver: readInstant,
});

/** `2030-01-01 12:00:00.5+00`, as a session in UTC writes it, in milliseconds since the Unix epoch. */
export function readInstant(text: string): number {
  const [, date, time, fraction = ""] = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d{1,3})?\d*\+00$/.exec(text) ?? [];
  if (date === undefined) throw new Error("an instant was not written as a session in UTC does");
  return Date.parse(`${date}T${time}${fraction}Z`);
}

/** `tstzrange` as PostgreSQL writes it; ranges are made and read by SQL. */
export const instantRange = customType<{ data: string }>({ dataType: () => "tstzrange" });
