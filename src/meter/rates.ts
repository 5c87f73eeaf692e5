/** What usage costs, by the named price lists that every installation begins with: one file, which a migration puts in too. */
import { WarrenError } from "../errors.ts";
import type { Usage } from "./fold.ts";
import { METERS, type MeterName } from "./meters.ts";
import { addUsd, parseUsd, timesUsd, type Usd, ZERO_USD } from "./money.ts";
import seed from "./rates.json" with { type: "json" };

/** Meter → US dollars for one of the units that its price is for. What has none costs nothing. */
export type Rates = Partial<Readonly<Record<MeterName, Usd>>>;

export type RateList = keyof typeof seed;

/** @throws {WarrenError} `invalid_request` – no such list. */
export function ratesOf(list: string = "default"): Rates {
  if (!Object.hasOwn(seed, list)) {
    const known = Object.keys(seed).join(", ");
    throw new WarrenError("invalid_request", `there is no price list ${list}; there are ${known}`);
  }
  const { prices } = seed[list as RateList];
  return Object.fromEntries(Object.entries(prices).map(([meter, price]) => [meter, parseUsd(price)]));
}

/** The exact price of usage; round it once, where it is shown or booked. */
export function price(usage: Partial<Usage>, rates: Rates): Usd {
  let sum = ZERO_USD;
  for (const [meter, quantity] of Object.entries(usage) as [keyof Usage, bigint][]) {
    const rate = rates[meter];
    if (rate !== undefined) sum = addUsd(sum, timesUsd(rate, quantity, METERS[meter].factor));
  }
  return sum;
}
