/** What a client gets instead of a program's answer. */
import { errorBody } from "../../../contract/status.ts";
import { isWarrenError } from "../../../errors.ts";

const BAD_GATEWAY = 502;

/**
 * 502 with the error's body when it is the program that did not answer. Any other failure is for whoever answers for all rows.
 * @throws what `error` is, for instance `not_found`
 */
export function badGateway(error: unknown, requestId: string): Response {
  if (!isWarrenError(error, "guest_protocol")) throw error;
  const headers = {
    "content-type": "application/json",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
  };
  return new Response(JSON.stringify(errorBody(error, requestId)), { status: BAD_GATEWAY, headers });
}
