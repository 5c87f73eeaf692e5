/** What a failed write to a command's stdin says of the command. */
import { isWarrenError } from "../../errors.ts";

/**
 * A command need not read all it is given: it may have ended, or have closed its stdin, which the guest says by a number. One that
 * goes on and only does not read is another matter: what was written is lost, and its writer has to know.
 */
export function readsNoMore(cause: unknown): boolean {
  if (isWarrenError(cause, "process_not_found")) return true;
  return isWarrenError(cause, "wrong_state") && cause.details["errno"] === "EPIPE";
}
