/** Arithmetic on decimal text such as `-12.050`: an integer and how many decimals it has. No float, one rule for rounding. */
import { WarrenError } from "../../errors.ts";

export interface Decimal {
  readonly units: bigint;
  /** The number is `units` / 10^`places`. */
  readonly places: number;
}

export const ZERO: Decimal = { units: 0n, places: 0 };
const PLAIN = /^-?\d+(\.\d+)?$/;

/** Whether it is a plain decimal number: no exponent, no plus, nothing around it. */
export function isDecimal(text: string): boolean {
  return PLAIN.test(text);
}

/** @throws {WarrenError} `invalid_request` – not a plain decimal number. */
export function parseDecimal(text: string): Decimal {
  if (!isDecimal(text)) {
    const says = `a number has to be plain decimal text such as -12.5, and is ${JSON.stringify(text.slice(0, 64))}`;
    throw new WarrenError("invalid_request", says, { details: { got: text.slice(0, 64) } });
  }
  const dot = text.indexOf(".");
  return { units: BigInt(text.replace(".", "")), places: dot < 0 ? 0 : text.length - dot - 1 };
}

export function unitsAt({ units, places }: Decimal, wanted: number): bigint {
  if (wanted >= places) return units * 10n ** BigInt(wanted - places);
  return divideRound(units, 10n ** BigInt(places - wanted));
}

export function plus(a: Decimal, b: Decimal): Decimal {
  const places = Math.max(a.places, b.places);
  return { units: unitsAt(a, places) + unitsAt(b, places), places };
}

export function times(a: Decimal, b: Decimal): Decimal {
  return { units: a.units * b.units, places: a.places + b.places };
}

/** To the nearest, halves away from zero: the rule of every rounding here. */
export function divideRound(dividend: bigint, divisor: bigint): bigint {
  const half = (abs(dividend) + divisor / 2n) / divisor;
  return dividend < 0n ? -half : half;
}

export function round(value: Decimal, places: number): Decimal {
  return { units: unitsAt(value, places), places };
}

/** The same number with as few decimals as it has, but not fewer than these. */
export function shortest(value: Decimal, atLeast = 0): Decimal {
  let { units, places } = value;
  while (places > atLeast && units % 10n === 0n) {
    units /= 10n;
    places -= 1;
  }
  return { units: unitsAt({ units, places }, Math.max(places, atLeast)), places: Math.max(places, atLeast) };
}

/** As it is: all its decimals, no separators. `-0.5`. */
export function plainText({ units, places }: Decimal): string {
  const digits = abs(units)
    .toString()
    .padStart(places + 1, "0");
  const cut = digits.length - places;
  return `${units < 0n ? "-" : ""}${digits.slice(0, cut)}${places === 0 ? "" : `.${digits.slice(cut)}`}`;
}

/** For people: `-1,234,567.50`. */
export function grouped(value: Decimal): string {
  const [whole = "", fraction] = plainText(value).split(".");
  const commas = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction === undefined ? commas : `${commas}.${fraction}`;
}

function abs(units: bigint): bigint {
  return units < 0n ? -units : units;
}
