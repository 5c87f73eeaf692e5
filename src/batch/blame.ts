/**
 * Whose doing a failure is, and so what becomes of the item and of the batch. Pure.
 * `verdict`: the item's own; its row says so. `again`: not its doing; it may be tried anew. `stop`: no item can do better,
 * so the batch ends and keeps what it has.
 */
import { WarrenError } from "../errors.ts";
import type { Stage } from "./run-job.ts";

export type Blame = "verdict" | "again" | "stop";

/** A create that failed: never the item's doing. */
export function blameCreate(cause: unknown): "again" | "stop" {
  if (!(cause instanceof WarrenError)) return "again";
  if (cause.code === "capacity_exhausted") return "stop"; // it would not fit an empty host
  return cause.fault === "capacity" || cause.fault === "guest" || cause.fault === "ours" ? "again" : "stop";
}

/**
 * A job that broke off. `alone`: nothing else ran in that sandbox before, so that what the guest did, this item did.
 * `broken`: the sandbox is not to be used again.
 */
export function blameRun(
  stage: Stage,
  cause: unknown,
  alone: boolean,
): { readonly blame: Blame; readonly broken: boolean } {
  if (!(cause instanceof WarrenError)) return { blame: "again", broken: true };
  if (cause.code === "unsupported" || cause.fault === "host") return { blame: "stop", broken: true };
  const isGone = cause.code === "not_found" || cause.fault === "guest" || cause.fault === "state";
  if (isGone) return { blame: stage !== "setup" && alone ? "verdict" : "again", broken: true };
  if (cause.fault === "caller") return { blame: "verdict", broken: false };
  return { blame: "again", broken: true };
}
