/** What an operator gives of prices, plans and quantities, looked at before the store has it: exact decimal text, known meters, days that exist. Pure. */
import { WarrenError } from "../../../errors.ts";
import { METER_NAMES } from "../../../meter/meters.ts";
import { isDay } from "./moments.ts";

const PRICE = /^\d{1,12}(\.\d{1,18})?$/;
const QUANTITY = /^\d{1,18}$/;

function refusal(field: string, got: unknown, allowed: string): WarrenError {
  const text = JSON.stringify(got) ?? "nothing";
  const shown = text.length > 80 ? `${text.slice(0, 77)}…` : text;
  return new WarrenError("invalid_request", `${field}: got ${shown}, allowed is ${allowed}`, {
    details: { field, allowed },
  });
}

/** @throws {WarrenError} `invalid_request` */
export function price(field: string, text: string): string {
  if (PRICE.test(text)) return text;
  throw refusal(
    field,
    text,
    "an exact amount that is not negative, such as 0.000010: at most 12 digits, and 18 after the point",
  );
}

function meter(field: string, name: string): void {
  if ((METER_NAMES as readonly string[]).includes(name)) return;
  throw refusal(field, name, `one of the meters ${METER_NAMES.join(", ")}`);
}

/** @throws {WarrenError} `invalid_request` – naming the meter that is unknown, or whose price is none */
export function prices(given: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  for (const [name, text] of Object.entries(given)) {
    meter("prices", name);
    price(`prices.${name}`, text);
  }
  return given;
}

/** @throws {WarrenError} `invalid_request` – naming the meter that is unknown, or whose quantity is none */
export function included(given: Readonly<Record<string, string>>): Record<string, string> {
  for (const [name, text] of Object.entries(given)) {
    meter("included", name);
    if (!QUANTITY.test(text) || /^0+$/.test(text))
      throw refusal(`included.${name}`, text, "a whole number above 0, in the meter's own unit, which is in its name");
  }
  return { ...given };
}

/** @throws {WarrenError} `invalid_request` */
export function day(field: string, text: string | undefined): string | undefined {
  if (text === undefined || isDay(text)) return text;
  throw refusal(field, text, "a day of the calendar, such as 2026-12-01");
}

/** Of decimal text that is not negative: below 0, 0 or above 0 as `a` is less, the same or more. */
function compared(a: string, b: string): number {
  const [wholeA = "", partA = ""] = a.split(".");
  const [wholeB = "", partB = ""] = b.split(".");
  const digits = Math.max(partA.length, partB.length);
  const [left, right] = [BigInt(wholeA + partA.padEnd(digits, "0")), BigInt(wholeB + partB.padEnd(digits, "0"))];
  return left < right ? -1 : left > right ? 1 : 0;
}

/** @throws {WarrenError} `invalid_request` – no amounts, or the least above the most */
export function bounds(minimum: string | null, cap: string | null): void {
  if (minimum !== null) price("minimum", minimum);
  if (cap === null) return;
  price("cap", cap);
  if (minimum !== null && compared(minimum, cap) > 0) throw refusal("cap", cap, `at least the minimum, ${minimum}`);
}
