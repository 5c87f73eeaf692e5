/** One HTTP exchange with a program in a sandbox: streamed both ways, with what goes on and comes back looked at. */
import type { Clock } from "../../../base/clock.ts";
import { isWarrenError, WarrenError } from "../../../errors.ts";
import type { PortTarget } from "../../../sandbox/ports/splice.ts";
import { fetchPort } from "../../../sandbox/ports.ts";
import { BOUNDS } from "../bounds.ts";
import { type Front, inward, outward } from "./headers.ts";
import { located } from "./location.ts";

export interface Forward {
  readonly target: PortTarget;
  readonly front: Front;
  /** Path and query for the program, as a URL has them. */
  readonly path: string;
  readonly request: Request;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** What stands before the paths of another port of the sandbox; null when it is not seen from outside. */
  readonly prefixOf: (port: number) => string | null;
  /** Runs once, when the exchange is over. */
  readonly over: () => void;
}

/** Methods that would ask for something else than the program's answer. */
const REFUSED: ReadonlySet<string> = new Set(["CONNECT", "TRACE", "TRACK"]);

/**
 * The program's answer, made fit for a client.
 * @throws {WarrenError} `guest_protocol` – nothing listens there, or what does speaks no HTTP; as the contract's `dial` says
 */
export async function forward(ask: Forward): Promise<Response> {
  const { request, front, target, clock, over } = ask;
  const abort = new AbortController();
  try {
    if (REFUSED.has(request.method)) {
      throw new WarrenError("method_not_allowed", `${request.method} does not go on to a sandbox`);
    }
    const late = (): void => {
      const says = `the program behind port ${target.port} of the sandbox did not answer within ${BOUNDS.answerMs / 1000} s`;
      abort.abort(new WarrenError("guest_protocol", says, { details: { port: target.port } }));
    };
    const cancel = clock.after(BOUNDS.answerMs, late, { background: true });
    const at = front.inner + ask.path;
    const init = {
      method: request.method,
      headers: inward(request.headers, front),
      redirect: "manual" as const,
      signal: AbortSignal.any([ask.signal, abort.signal]),
      // The runtime's own idea of how long an answer may be silent; here that is for the two ends to say.
      timeout: false,
      ...(request.body === null ? {} : { body: request.body }),
    };
    const response = await fetchPort(target, at, init).finally(cancel);
    return answered(response, ask, new URL(at));
  } catch (cause) {
    over();
    throw cause;
  }
}

function answered(response: Response, { front, prefixOf, over }: Forward, at: URL): Response {
  const headers = outward(response.headers, front);
  const location = response.headers.get("location");
  const next = location === null ? null : located(location, at, front, prefixOf);
  if (next !== null) headers.set("location", next);
  const { status, body } = response;
  if (body === null) over();
  return new Response(body === null ? null : watched(body, over), { status, headers });
}

/**
 * The same bytes; `over` runs when no more come. A body that breaks off does so without a reason: the server's runtime resets
 * the connection, and would print a reason where only what this server has to say belongs.
 */
function watched(body: ReadableStream<Uint8Array>, over: () => void): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          const { done, value } = await reader.read();
          if (!done) return controller.enqueue(value);
          over();
          controller.close();
        } catch {
          over(); // whoever asked sees that it broke off
          controller.error(undefined);
        }
      },
      cancel: async (reason) => {
        over();
        await reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}

/** That nothing listens is, seen through this server, an answer that it did not get. */
export function asSeenThrough(cause: unknown): unknown {
  if (!isWarrenError(cause, "wrong_state") || !("listening" in cause.details)) return cause;
  return new WarrenError("guest_protocol", cause.message, { details: cause.details, cause });
}
