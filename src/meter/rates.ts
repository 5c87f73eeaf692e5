/** What usage costs, by named price lists from one file. */
import { WarrenError } from "../errors.ts";
import type { Usage } from "./fold.ts";
import { addUsd, parseUsd, type Usd } from "./money.ts";
import seed from "./rates.json" with { type: "json" };

export interface Rates {
  readonly vcpuSecond: Usd;
  readonly gibSecond: Usd;
}

export type RateList = keyof typeof seed;

/** @throws {WarrenError} `invalid_request` – no such list. */
export function ratesOf(list: string = "default"): Rates {
  if (!Object.hasOwn(seed, list)) {
    const known = Object.keys(seed).join(", ");
    throw new WarrenError("invalid_request", `there is no price list ${list}; there are ${known}`);
  }
  const { vcpu_second_usd, gib_second_usd } = seed[list as RateList];
  return { vcpuSecond: parseUsd(vcpu_second_usd), gibSecond: parseUsd(gib_second_usd) };
}

const MS_DECIMALS = 3;
/** 1 / 1024 is 5^10 / 10^10, so a MiB's share of a GiB price has a finite number of decimals. */
const GIB_DECIMALS = 10;
const GIB_FACTOR = 5n ** 10n;

/** The exact price of usage; round it once, where it is shown or booked. */
export function price(usage: Usage, rates: Rates): Usd {
  const cpu = { units: usage.vcpuMs * rates.vcpuSecond.units, decimals: rates.vcpuSecond.decimals + MS_DECIMALS };
  const memory = {
    units: usage.memoryMibMs * rates.gibSecond.units * GIB_FACTOR,
    decimals: rates.gibSecond.decimals + MS_DECIMALS + GIB_DECIMALS,
  };
  return addUsd(cpu, memory);
}
