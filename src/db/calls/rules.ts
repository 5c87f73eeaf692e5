/** What the database's functions are told of how time is charged and counted: the rule and the prices of `meter/`. */
import { UNBOOKED_MS } from "../../api/store.ts";
import type { SandboxState } from "../../contract/routes/sandboxes.ts";
import { CHARGED, NOTHING } from "../../meter/fold.ts";
import { formatUsd } from "../../meter/money.ts";
import { price, ratesOf } from "../../meter/rates.ts";
import { asJson } from "../database.ts";

const ENDED: readonly SandboxState[] = ["deleted", "failed"];
const statesWith = (what: "vcpu" | "memory") =>
  Object.entries(CHARGED).flatMap(([state, charged]) => (charged[what] ? [state] : []));

/** JSON text. The prices are linear and exact, so that one unit's is enough to know. */
export const RULES = asJson({
  vcpu: statesWith("vcpu"),
  memory: statesWith("memory"),
  ended: ENDED,
  vcpu_ms_usd: formatUsd(price({ ...NOTHING, vcpuMs: 1n }, ratesOf())),
  memory_mib_ms_usd: formatUsd(price({ ...NOTHING, memoryMibMs: 1n }, ratesOf())),
  unbooked_ms: UNBOOKED_MS,
});
