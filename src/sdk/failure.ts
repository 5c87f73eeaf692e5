/** What can go wrong between a client and its server, as the one error class. The network's failure is never the sandbox's end. */
import { WarrenError } from "../errors.ts";

/** The caller's own reason for an abort when it is one of ours, else `cancelled`. */
export function aborted(signal: AbortSignal): WarrenError {
  if (signal.reason instanceof WarrenError) return signal.reason;
  return new WarrenError("cancelled", "the call was cancelled", { cause: signal.reason });
}

/** Codes of a failure and of what caused it, as runtimes tell them: `ECONNREFUSED`, `ENOTFOUND`, … */
function systemCode(cause: unknown): string | null {
  for (let at = cause, depth = 0; at instanceof Error && depth < 4; at = at.cause, depth++) {
    if ("code" in at && typeof at.code === "string") return at.code;
    if (at instanceof AggregateError && at.errors[0] instanceof Error) return systemCode(at.errors[0]);
  }
  return null;
}

/** The server at `origin` could not be reached, or was lost before the end of its answer. */
export function lost(origin: string, says: string, cause?: unknown): WarrenError {
  const code = systemCode(cause);
  const why = code ?? (cause instanceof Error ? cause.message : null);
  return new WarrenError("connection_failed", `${says} ${origin}${why === null || why === "" ? "" : `: ${why}`}`, {
    details: { origin, ...(code === null ? {} : { code }) },
    cause,
  });
}
