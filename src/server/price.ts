/** What a sandbox costs while it runs, for people and clients. Bills are folded from moves, with the same rates. */
import type { SandboxInfo } from "../contract/routes/sandboxes.ts";
import { running } from "../meter/fold.ts";
import { formatUsd, roundUsd } from "../meter/money.ts";
import { price, ratesOf } from "../meter/rates.ts";

const SECOND_MS = 1000n;
/** A ten-thousandth of the price of a vCPU-second. */
const DECIMALS = 9;

/** US dollars for each second. */
export function pricePerSecondUsd({ cpu, memoryMb }: Pick<SandboxInfo, "cpu" | "memoryMb">): string {
  const usage = running({ cpu, memoryMib: memoryMb }, SECOND_MS);
  return formatUsd(roundUsd(price(usage, ratesOf()), DECIMALS));
}
