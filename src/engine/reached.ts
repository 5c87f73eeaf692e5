/** Why a sandbox takes no calls, told by the state that it is in. */
import type { SandboxInfo } from "../contract/routes/sandboxes.ts";
import { WarrenError } from "../errors.ts";
import type { AwakeClone } from "./create/clone.ts";
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

/** States of a sandbox that has not ended. */
const LASTING: readonly SandboxInfo["state"][] = ["running", "paused", "hibernated"];

/**
 * A lost connection is told as the end of the sandbox that caused it, which may be heard of a moment later. `body` is what
 * the sandbox stood on when the call began: one that has slept meanwhile has another, or none, and has not ended.
 */
export async function explain(live: Live, cause: unknown, body: AwakeClone): Promise<unknown> {
  if (!(cause instanceof WarrenError) || cause.code !== "sandbox_lost" || live.released) return cause;
  const { id } = live;
  if (live.body !== body && LASTING.includes(live.info.state)) {
    return new WarrenError("wrong_state", `sandbox ${id} was put to sleep during the call`, { details: { id }, cause });
  }
  await live.left.promise;
  const { state, reason } = live.info;
  return new WarrenError("sandbox_lost", `sandbox ${id} ended during the call: ${reason}`, {
    details: { id, state, reason },
    cause,
  });
}
