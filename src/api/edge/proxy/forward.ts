/** One HTTP exchange with a program in a sandbox: streamed both ways, with what goes on and comes back looked at. */
import type { Clock } from "../../../base/clock.ts";
import { isWarrenError, WarrenError } from "../../../errors.ts";
import type { PortTarget } from "../../../sandbox/ports/splice.ts";
import { BOUNDS } from "../bounds.ts";
import { type Answer, type Exchange, exchange } from "../http/exchange.ts";
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
    const answer = await exchange({
      ...{ target, over, path: ask.path, method: request.method, ...bodyOf(request) },
      headers: inward(request.headers, front),
      signal: AbortSignal.any([ask.signal, abort.signal]),
    }).finally(cancel);
    return answered(answer, ask);
  } catch (cause) {
    over();
    throw cause;
  }
}

/** A length that was given beside another framing is none. */
function bodyOf({ body, headers }: Request): Pick<Exchange, "body" | "length"> {
  const length = headers.get("content-length");
  if (body === null) return { body: length === "0" ? nothing() : null, length: 0 };
  const isKnown = length !== null && /^\d{1,15}$/.test(length) && !headers.has("transfer-encoding");
  return { body, length: isKnown ? Number(length) : null };
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

function answered({ status, headers: from, body, leave }: Answer, ask: Forward): Response {
  const { front, path, prefixOf, request } = ask;
  const headers = outward(from, front);
  // Of an answer without a body it would be taken for one that is still to come, but for these two.
  const isLengthOnly = request.method === "HEAD" || status === 304;
  if (!isLengthOnly || !/^\d{1,15}$/.test(headers.get("content-length") ?? "")) headers.delete("content-length");
  const location = from.get("location");
  const next = location === null ? null : located(location, new URL(front.inner + path), front, prefixOf);
  if (next !== null) headers.set("location", next);
  return new Response(body === null ? null : streamOf(body, leave), { status, headers });
}

/**
 * A body that breaks off does so without a reason: the server's runtime resets the connection, and would print a reason where only
 * what this server has to say belongs.
 */
function streamOf(body: AsyncGenerator<Uint8Array>, leave: () => void): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          const { done, value } = await body.next();
          if (done === true) controller.close();
          else controller.enqueue(value);
        } catch {
          controller.error(undefined); // whoever asked sees that it broke off
        }
      },
      cancel: async () => {
        leave();
        await body.return(undefined).catch(() => undefined); // it ends because of the leaving
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
