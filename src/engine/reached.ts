/** Why a sandbox takes no calls, told by the state that it is in. */
import type { SandboxInfo } from "../contract/routes/sandboxes.ts";
import { WarrenError } from "../errors.ts";
import type { Live } from "./live.ts";

export function notFound(id: string): WarrenError {
  return new WarrenError("not_found", `there is no sandbox ${id}`, { details: { id } });
}

export function notRunning({ id, state, reason }: Pick<SandboxInfo, "id" | "state" | "reason">): WarrenError {
  const details = { id, state, reason };
  if (state === "failed") return new WarrenError("sandbox_lost", `sandbox ${id} failed: ${reason}`, { details });
  if (state === "paused")
    return new WarrenError("wrong_state", `sandbox ${id} is paused: resume it first`, { details });
  const why = reason === null ? "" : `: ${reason}`;
  return new WarrenError("wrong_state", `sandbox ${id} is ${state}${why}`, { details });
}

/** A lost connection is told as the end of the sandbox that caused it, which may be heard of a moment later. */
export async function explain(live: Live, cause: unknown): Promise<unknown> {
  if (!(cause instanceof WarrenError) || cause.code !== "sandbox_lost" || live.released) return cause;
  await live.left.promise;
  const { id, state, reason } = live.info;
  return new WarrenError("sandbox_lost", `sandbox ${id} ended during the call: ${reason}`, {
    details: { id, state, reason },
    cause,
  });
}
