/** A sandbox that wakes takes vCPUs and memory as one that is made does, and of an account that may have them. */
import type { Clock } from "../../base/clock.ts";
import type { SandboxInfo } from "../../contract/routes/sandboxes.ts";
import type { Store } from "../store.ts";
import { refusalOf } from "./booked.ts";

/** @throws {WarrenError} `quota_exceeded`, `out_of_credit`, `forbidden` – the account is suspended; `store_unavailable` */
export async function admittedWake(
  store: Pick<Store, "admit">,
  clock: Clock,
  account: string,
  { id, cpu, memoryMb: memoryMib, template }: SandboxInfo,
): Promise<void> {
  const verdict = await store.admit(account, [{ id, cpu, memoryMib, template, atMs: clock.wallMs() }], null);
  if (verdict.kind !== "booked" && verdict.kind !== "replayed") throw refusalOf(verdict);
}
