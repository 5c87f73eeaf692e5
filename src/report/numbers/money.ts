/** Amounts of money for people, from exact decimal text. */
import { type Decimal, grouped, parseDecimal, round, shortest } from "./decimal.ts";

/** Decimals of a currency's smallest unit, where it is not hundredths: ISO 4217, 2024. */
const PLACES: Readonly<Record<string, number>> = {
  ...Object.fromEntries(
    "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(" ").map((code) => [code, 0]),
  ),
  ...Object.fromEntries("BHD IQD JOD KWD LYD OMR TND".split(" ").map((code) => [code, 3])),
  CLF: 4,
  UYW: 4,
};
/** What an exact amount may have beyond the currency's own before it is rounded for people. */
const EXTRA_PLACES = 6;

/** How many decimals amounts of this currency have. */
export function currencyPlaces(currency: string): number {
  return PLACES[currency] ?? 2;
}

/** In the currency's own decimals, rounded if it has more: `1,234.50`. */
export function money(amount: string, currency: string): string {
  return grouped(round(parseDecimal(amount), currencyPlaces(currency)));
}

/** A price keeps every decimal it has, and has at least the currency's own: `0.00001`, `12.00`. */
export function unitPrice(price: string, currency: string): string {
  return grouped(shortest(parseDecimal(price), currencyPlaces(currency)));
}

/**
 * How many decimals a column of exact amounts is shown with, so that all of them line up: what the longest needs, and at most
 * six more than the currency has.
 */
export function sharedPlaces(amounts: readonly string[], currency: string): { places: number; rounded: boolean } {
  const own = currencyPlaces(currency);
  const needed = Math.max(own, ...amounts.map((text) => shortest(parseDecimal(text)).places));
  return { places: Math.min(needed, own + EXTRA_PLACES), rounded: needed > own + EXTRA_PLACES };
}

/** An exact amount in so many decimals. */
export function amountAt(amount: Decimal, places: number): string {
  return grouped(round(amount, places));
}
