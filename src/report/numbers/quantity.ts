/** Quantities in units that people think in. Exact numbers stay in `json`, `csv` and `parquet`; here they are rounded to be read. */
import { METERS, type Meter } from "../../meter/meters.ts";
import { divideRound, grouped, parseDecimal, shortest, times } from "./decimal.ts";

const HOUR_S = 3600n;
/** A month of storage is 730 hours (365 days · 24 / 12), whatever month it is. */
export const MONTH_S = 730n * HOUR_S;
const PLACES = 3;

interface Natural {
  readonly title: string;
  readonly unit: string;
  /** How many of the price's units are one of these. */
  readonly divisor: bigint;
}

const HOURS = { unit: "GiB-hours", divisor: HOUR_S };
const MONTHS = { unit: "GiB-months", divisor: MONTH_S };

const NATURAL: Readonly<Record<string, Natural>> = {
  vcpu_ms: { title: "vCPU", unit: "vCPU-hours", divisor: HOUR_S },
  memory_mib_ms: { title: "memory", ...HOURS },
  paused_memory_mib_ms: { title: "paused", ...HOURS },
  ready_memory_mib_ms: { title: "ready", ...HOURS },
  hibernated_mib_s: { title: "hibernated", ...MONTHS },
  snapshot_mib_s: { title: "snapshots", ...MONTHS },
  volume_mib_s: { title: "volumes", ...MONTHS },
  template_mib_s: { title: "templates", ...MONTHS },
  build_s: { title: "builds", unit: "hours", divisor: HOUR_S },
  egress_bytes: { title: "egress", unit: "GiB", divisor: 1n },
  creates: { title: "creates", unit: "", divisor: 1n },
  cpu_used_ms: { title: "CPU used", unit: "CPU-hours", divisor: HOUR_S },
};

/** What a meter's column is called: `vCPU`, and its unit `vCPU-hours`; one that is not known here goes by its own name. */
export function meterTitle(meter: string): { title: string; unit: string } {
  const { title, unit } = NATURAL[meter] ?? { title: meter, unit: "" };
  return { title, unit };
}

/** A meter's whole number in its natural unit: `1,234.567`. What is more than nothing never reads as nothing: `<0.001`. */
export function quantity(meter: string, amount: string): string {
  const exact = parseDecimal(amount);
  const natural = NATURAL[meter];
  const known: Meter | undefined = Object.hasOwn(METERS, meter) ? METERS[meter as keyof typeof METERS] : undefined;
  if (natural === undefined || known === undefined) return grouped(exact);
  const inPriceUnits = times(exact, parseDecimal(known.factor));
  const divisor = natural.divisor * 10n ** BigInt(inPriceUnits.places);
  const units = divideRound(inPriceUnits.units * 10n ** BigInt(PLACES), divisor);
  if (units === 0n && exact.units !== 0n) return exact.units < 0n ? ">-0.001" : "<0.001";
  return grouped(natural.divisor === 1n && known.factor === "1" ? shortest(exact) : { units, places: PLACES });
}
