/** Exact amounts of US dollars: an integer and how many decimals it has. No float, and one rule for rounding. */
import { WarrenError } from "../errors.ts";

export interface Usd {
  readonly units: bigint;
  /** The amount is `units` / 10^`decimals`. */
  readonly decimals: number;
}

export const ZERO_USD: Usd = { units: 0n, decimals: 0 };

/** @throws {WarrenError} `invalid_request` – not a plain decimal number such as `0.000010`. */
export function parseUsd(text: string): Usd {
  if (!/^\d{1,18}(\.\d{1,18})?$/.test(text)) {
    throw new WarrenError(
      "invalid_request",
      `a price has to be a plain decimal number, and is ${JSON.stringify(text)}`,
    );
  }
  const [whole = "", fraction = ""] = text.split(".");
  return { units: BigInt(whole + fraction), decimals: fraction.length };
}

export function addUsd(a: Usd, b: Usd): Usd {
  const decimals = Math.max(a.decimals, b.decimals);
  return { units: scaled(a, decimals) + scaled(b, decimals), decimals };
}

/** A price times a quantity times a factor, which is exact decimal text such as `0.0009765625`. */
export function timesUsd(price: Usd, quantity: bigint, factor: string): Usd {
  const [whole = "", fraction = ""] = factor.split(".");
  return { units: price.units * quantity * BigInt(whole + fraction), decimals: price.decimals + fraction.length };
}

/** The rounding rule, the only one: to the nearest, halves away from zero. Amounts are never negative. */
export function roundUsd(amount: Usd, decimals: number): Usd {
  if (amount.decimals <= decimals) return { units: scaled(amount, decimals), decimals };
  const step = 10n ** BigInt(amount.decimals - decimals);
  return { units: (amount.units + step / 2n) / step, decimals };
}

/** As decimal text without trailing zeros: `0.00006`, `12`. Exact. */
export function formatUsd({ units, decimals }: Usd): string {
  const digits = units.toString().padStart(decimals + 1, "0");
  const whole = digits.slice(0, digits.length - decimals);
  const fraction = digits.slice(digits.length - decimals).replace(/0+$/, "");
  return fraction === "" ? whole : `${whole}.${fraction}`;
}

function scaled({ units, decimals }: Usd, to: number): bigint {
  return units * 10n ** BigInt(to - decimals);
}
