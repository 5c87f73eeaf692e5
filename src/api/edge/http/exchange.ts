/**
 * One HTTP exchange with a program in a sandbox over a connection of its own. The runtime's `fetch` serves a few hundred at a time
 * in a whole process, and one sandbox's long polls would stop those of all others; here each costs its connection.
 */
import { isWarrenError, WarrenError } from "../../../errors.ts";
import { hostOf } from "../../../sandbox/ports/address.ts";
import { dialPort, type PortTarget } from "../../../sandbox/ports/splice.ts";
import { framed, framingOf, unframed } from "./body.ts";
import { HeadReader, HttpError, type ResponseHead, requestBytes } from "./head.ts";

export interface Exchange {
  readonly target: PortTarget;
  readonly method: string;
  readonly path: string;
  /** Without those of the connection and of the body's framing. */
  readonly headers: Headers;
  readonly body: AsyncIterable<Uint8Array> | null;
  /** Of the body; null: not known. */
  readonly length: number | null;
  /** Ends it at any time. */
  readonly signal: AbortSignal;
  /** Runs once, when it is over. */
  readonly over: () => void;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** Null: there is none. One that breaks off throws. */
  readonly body: AsyncGenerator<Uint8Array> | null;
  /** Ends the exchange, also while the body is waited for. */
  readonly leave: () => void;
}

/** The request's bytes, and then nothing until the exchange is over: programs take an end for a client that has left. */
async function* outgoing({ target, method, path, headers, body, length }: Exchange, over: Promise<void>) {
  const framing: [string, string][] =
    body === null ? [] : [length === null ? ["Transfer-Encoding", "chunked"] : ["Content-Length", String(length)]];
  yield requestBytes({
    method,
    path,
    host: hostOf(target.port),
    headers: [...headers, ...framing],
    connection: "close",
  });
  if (body !== null) yield* framed(body, length);
  await over;
}

/** @throws {WarrenError} `guest_protocol` – what listens speaks no HTTP; as the contract's `dial` says */
export async function exchange(ask: Exchange): Promise<Answer> {
  const { promise: over, resolve } = Promise.withResolvers<void>();
  let pieces: AsyncIterator<Uint8Array> | null = null;
  const end = async (): Promise<void> => {
    resolve();
    ask.over();
    await pieces?.return?.();
  };
  const left = new AbortController();
  const leave = (): void => left.abort(new WarrenError("cancelled", "nobody reads the answer any more"));
  try {
    const signal = AbortSignal.any([ask.signal, left.signal]);
    pieces = (await dialPort(ask.target, outgoing(ask, over), signal))[Symbol.asyncIterator]();
    const { head, rest } = await headOf(pieces);
    if (head.status === 101) throw new HttpError("it answered with an upgrade that nobody asked for");
    const framing = framingOf(ask.method, head);
    const body = framing.kind === "none" ? null : bodyOf(unframed(framing, following(rest, pieces)), end);
    if (body === null) await end();
    return { status: head.status, headers: headersOf(head), body, leave };
  } catch (cause) {
    // Whatever ends it now says less than why.
    await end().catch(() => undefined);
    throw explained(cause, ask, pieces !== null);
  }
}

/** @throws {HttpError} – it is none, or none comes */
export async function headOf(pieces: AsyncIterator<Uint8Array>): Promise<{ head: ResponseHead; rest: Uint8Array }> {
  const reader = new HeadReader();
  for (;;) {
    const { done, value } = await pieces.next();
    if (done === true) throw new HttpError("it hung up without an answer");
    const whole = reader.take(value);
    if (whole !== null) return whole;
  }
}

async function* following(first: Uint8Array, pieces: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (first.length > 0) yield first;
  yield* { [Symbol.asyncIterator]: () => pieces };
}

async function* bodyOf(bytes: AsyncIterable<Uint8Array>, end: () => Promise<void>): AsyncGenerator<Uint8Array> {
  try {
    yield* bytes;
  } finally {
    await end();
  }
}

function headersOf({ headers }: ResponseHead): Headers {
  const all = new Headers();
  for (const [name, value] of headers) all.append(name, value);
  return all;
}

/** What broke off once the connection stood is the program's answer, or the want of one. */
function explained(cause: unknown, { target, signal }: Exchange, isConnected: boolean): unknown {
  if (signal.aborted) return signal.reason;
  const isBroken = cause instanceof HttpError || (isConnected && isWarrenError(cause, "wrong_state"));
  if (!isBroken) return cause;
  const says = `the program behind port ${target.port} of the sandbox did not answer as HTTP: ${cause.message}`;
  return new WarrenError("guest_protocol", says, { details: { port: target.port }, cause });
}
