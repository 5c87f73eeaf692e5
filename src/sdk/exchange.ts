/**
 * One request and its answer: sent with the key, waited for within its deadline, tried again where that is safe. What comes
 * back is a success whose body is not read yet; everything else is thrown.
 */
import type { Clock } from "../base/clock.ts";
import { nonce } from "../base/id.ts";
import { errorOf } from "../contract/status.ts";
import { isWarrenError, type WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { aborted, lost } from "./failure.ts";
import type { RowRequest } from "./request.ts";
import type { Runtime } from "./runtime.ts";
import { type Upload, uploadOf } from "./upload.ts";

export interface Server {
  /** Without a slash at its end; may have a path. */
  readonly url: string;
  readonly key: string | null;
  readonly runtime: () => Promise<Runtime>;
  /** Until an answer is there, milliseconds; of a stream, until it begins. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** A success. Ends the request when it is aborted. */
export interface Answer {
  readonly response: Response;
  readonly abort: (why: unknown) => void;
  /** An error of reading the body, as the caller is to see it. */
  failed(cause: unknown): unknown;
  /** The body is over, however it ended. */
  over(): void;
}

/** Bodies of errors beyond this are cut. */
const ERROR_CHARS = 1024 * 1024;

/** A server that asks for another try of what is over a quota after longer than this is not asked again. */
const QUOTA_RETRY_MS_MAX = 2000;

const isEvents = ({ row: { returns } }: RowRequest): boolean => typeof returns === "object" && "events" in returns;

/** Its answer goes on for as long as its reader reads. */
const isStreamed = (request: RowRequest): boolean => isEvents(request) || request.row.returns === "bytes";

function headersOf(server: Server, request: RowRequest): Record<string, string> {
  return {
    ...request.headers,
    accept: isEvents(request) ? "text/event-stream" : isStreamed(request) ? "*/*" : "application/json",
    ...(server.key === null ? {} : { authorization: `Bearer ${server.key}` }),
    // The same in each try: a server that has made the sandbox already answers with that one.
    ...(request.name === "create" ? { "idempotency-key": `${nonce()}${nonce()}` } : {}),
  };
}

/** Doing it twice is as good as doing it once, and its body can be sent twice. */
function isRepeatable({ request: { name, row }, upload }: Sending): boolean {
  if (upload?.isStream === true) return false;
  return name === "create" || row.method === "GET" || row.method === "PUT" || row.method === "DELETE";
}

/** Milliseconds until a call that got no answer is tried again; null: never. */
function againAfter(sending: Sending, error: unknown): number | null {
  if (!isWarrenError(error, "connection_failed") || !isRepeatable(sending)) return null;
  // Of what may have been deleted a second try would say that it is not there.
  const isDelete = sending.request.row.method === "DELETE" && sending.request.name !== "close";
  return isDelete && error.details["code"] !== "ECONNREFUSED" ? null : LIMITS.clientRetryMs;
}

/**
 * Milliseconds that the server asks for; null: it asks for no other try. A quota is not given back by waiting, unless the
 * server says that it is about to be: its caller is told at once.
 */
function askedMs(response: Response, error: WarrenError, clock: Clock): number | null {
  const ms = retryAfterMs(response, clock);
  return ms !== null && error.code === "quota_exceeded" && ms > QUOTA_RETRY_MS_MAX ? null : ms;
}

function retryAfterMs(response: Response, clock: Clock): number | null {
  if (response.status !== 429 && response.status !== 503) return null;
  const header = response.headers.get("retry-after");
  if (header === null) return null;
  const ms = /^\d{1,6}$/.test(header) ? Number(header) * 1000 : Date.parse(header) - clock.wallMs();
  return Number.isNaN(ms) ? null : Math.max(0, ms);
}

async function refusalOf(response: Response): Promise<WarrenError> {
  const text = (await response.text().catch(() => "")).slice(0, ERROR_CHARS); // the status says enough
  try {
    return errorOf(response.status, JSON.parse(text));
  } catch {
    return errorOf(response.status, text); // a proxy's page, for instance
  }
}

type Try = { readonly answer: Answer } | { readonly error: unknown; readonly againMs: number | null };

/** What all tries of one call have in common. */
interface Sending {
  readonly server: Server;
  readonly request: RowRequest;
  readonly runtime: Runtime;
  readonly headers: Readonly<Record<string, string>>;
  readonly upload: Upload | null;
  readonly signal: AbortSignal | undefined;
  /** A piece of the upload is asked for: the server takes what comes, so it is not late. */
  touch: () => void;
}

/** @throws {WarrenError} what the server answers; `connection_failed`; `cancelled`, or the reason of the abort when it is ours */
export async function exchange(server: Server, request: RowRequest, signal?: AbortSignal): Promise<Answer> {
  if (signal?.aborted === true) throw aborted(signal);
  const runtime = await server.runtime();
  const progress = (): void => sending.touch();
  const { body } = request;
  const isUpload = body !== null && "upload" in body;
  const upload = isUpload ? await uploadOf(body.upload, runtime.streamsUploads, progress) : null;
  const headers = headersOf(server, request);
  const sending: Sending = { server, request, runtime, headers, upload, signal, touch: () => undefined };
  try {
    return await tried(sending);
  } catch (cause) {
    upload?.leave();
    throw cause;
  }
}

async function tried(sending: Sending): Promise<Answer> {
  const { clock, timeoutMs } = sending.server;
  const { signal } = sending;
  const startMs = clock.monotonicMs();
  for (let tries = 1; ; tries += 1) {
    const result = await attempt(sending);
    if ("answer" in result) return result.answer;
    const { error, againMs } = result;
    const isBaking = isWarrenError(error, "template_baking") && clock.monotonicMs() - startMs < timeoutMs;
    if (againMs === null || (tries >= LIMITS.clientTries && !isBaking)) throw error;
    const waitMs = Math.max(againMs, LIMITS.clientRetryMs * 2 ** Math.min(tries - 1, LIMITS.clientTries));
    if (waitMs > LIMITS.clientRetryMsMax) throw error;
    await clock.sleep(waitMs, signal).catch(() => {
      throw signal === undefined ? error : aborted(signal);
    });
  }
}

async function attempt(sending: Sending): Promise<Try> {
  const { server, upload, signal } = sending;
  const over = new AbortController();
  const stop = (): void => over.abort(signal === undefined ? undefined : aborted(signal));
  signal?.addEventListener("abort", stop, { once: true });
  const late = deadline(server, () => over.abort(lost(origin(server), `no answer within ${server.timeoutMs} ms from`)));
  sending.touch = late.touch;
  const release = (): void => {
    late.cancel();
    signal?.removeEventListener("abort", stop);
  };
  const failed = (cause: unknown, says: string): unknown => {
    if (over.signal.aborted) return over.signal.reason;
    const broken = upload?.failure();
    return broken === null || broken === undefined ? lost(origin(server), says, cause) : broken.cause;
  };
  try {
    const response = await send(sending, over.signal);
    if (response.ok) {
      if (isStreamed(sending.request)) late.cancel(); // else the deadline is for all of it
      const abort = (why: unknown): void => over.abort(why);
      const cut = (cause: unknown) => failed(cause, "the answer broke off, of");
      const end = (): void => {
        release();
        upload?.leave();
      };
      return { answer: { response, abort, failed: cut, over: end } };
    }
    const error = await refusalOf(response);
    release();
    return { error, againMs: isRepeatable(sending) ? askedMs(response, error, server.clock) : null };
  } catch (cause) {
    release();
    const error = failed(cause, "cannot reach");
    return { error, againMs: over.signal.aborted ? null : againAfter(sending, error) };
  }
}

function send(sending: Sending, signal: AbortSignal): Promise<Response> {
  const { runtime, server, headers, upload } = sending;
  const { row, target, body } = sending.request;
  const content = upload !== null ? upload.body : body !== null && "json" in body ? body.json : null;
  return runtime.fetch(server.url + target, {
    method: row.method,
    headers,
    signal,
    redirect: "error",
    ...(content === null ? {} : { body: content }),
    ...(upload?.isStream === true ? { duplex: "half" as const } : {}),
  });
}

/** Where it is, without what a URL may hold of a secret. */
export function origin(server: Server): string {
  return new URL(server.url).origin;
}

/** Runs `job` once, so long after the last touch. */
function deadline({ clock, timeoutMs }: Server, job: () => void): { touch(): void; cancel(): void } {
  let cancel = clock.after(timeoutMs, job, { background: true });
  let isOver = false;
  return {
    touch: () => {
      if (isOver) return;
      cancel();
      cancel = clock.after(timeoutMs, job, { background: true });
    },
    cancel: () => {
      isOver = true;
      cancel();
    },
  };
}
