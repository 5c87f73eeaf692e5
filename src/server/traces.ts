/**
 * OpenTelemetry: one span for each request, sent to a collector as OTLP's JSON over HTTP, in batches. A trace that a client
 * began goes on. What a request carries is in no span: only its operation, its status and its id. A collector that is away
 * costs spans, never requests.
 */

import type { Clock } from "../base/clock.ts";
import { randomBytes } from "../base/id.ts";
import type { Log } from "../base/log.ts";
import { table } from "../contract/table.ts";

export interface TracesParts {
  /** Of the collector, without `/v1/traces`. */
  readonly endpoint: string;
  readonly node: string;
  readonly version: string;
  readonly clock: Clock;
  readonly log: Log;
  /** In place of the runtime's, for tests. */
  readonly post?: (
    url: string,
    body: string,
    signal: AbortSignal,
  ) => Promise<{ readonly ok: boolean; readonly status: number }>;
}

interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly name: string;
  readonly method: string;
  readonly status: number;
  readonly requestId: string | null;
  /** Nanoseconds since the Unix epoch. */
  readonly start: bigint;
  readonly end: bigint;
}

const SPANS_MAX = 4096;
const BATCH = 512;
const SEND_MS = 5_000;
const DEADLINE_MS = 10_000;
const SERVER = 2;
const ERROR = 2;

const post: NonNullable<TracesParts["post"]> = (url, body, signal) =>
  fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body, signal });

const hex = (bytes: number): string => Buffer.from(randomBytes(bytes)).toString("hex");

/** `GET /v1/sandboxes/:id`; of what is no row, the method alone: paths of proxied ports are nobody's business. */
function nameOf(method: string, pathname: string): string {
  const parts = pathname.split("/");
  for (const [pattern, path] of ROUTES) {
    const same = path.length === parts.length && path.every((part, i) => part.startsWith(":") || part === parts[i]);
    if (same && pattern.startsWith(`${method} `)) return pattern;
  }
  return method;
}
const ROUTES: readonly (readonly [string, readonly string[]])[] = Object.values(table).map(({ method, path }) => [
  `${method} ${path}`,
  path.split("/"),
]);

/** The trace that a request belongs to; null when it is the first of its own. */
function parentOf(request: Request): { readonly traceId: string; readonly spanId: string } | null {
  const [, traceId, spanId] =
    /^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$/.exec(request.headers.get("traceparent") ?? "") ?? [];
  if (traceId === undefined || spanId === undefined || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return null;
  return { traceId, spanId };
}

export class Traces {
  readonly #parts: TracesParts;
  #spans: Span[] = [];
  #lost = 0;
  #cancel: (() => void) | null = null;
  #sending: Promise<void> = Promise.resolve();

  constructor(parts: TracesParts) {
    this.#parts = parts;
  }

  /** Ends when the answer's headers are there; a stream that follows them is not waited for. */
  async during<T extends Response | undefined>(request: Request, answer: () => T | Promise<T>): Promise<T> {
    const { clock } = this.#parts;
    const [wallMs, startMs] = [clock.wallMs(), clock.monotonicMs()];
    let response: T | undefined;
    try {
      response = await answer();
      return response;
    } finally {
      const at = (ms: number): bigint => BigInt(Math.round((wallMs + ms - startMs) * 1000)) * 1000n;
      const parent = parentOf(request);
      this.#add({
        traceId: parent?.traceId ?? hex(16),
        spanId: hex(8),
        parentSpanId: parent?.spanId ?? "",
        name: nameOf(request.method, new URL(request.url).pathname),
        method: request.method,
        status: response?.status ?? 101, // upgraded
        requestId: response?.headers.get("x-request-id") ?? null,
        start: at(startMs),
        end: at(clock.monotonicMs()),
      });
    }
  }

  /** Sends what waits. */
  async close(): Promise<void> {
    this.#cancel?.();
    await this.#send();
  }

  #add(span: Span): void {
    if (this.#spans.length >= SPANS_MAX) this.#lost += 1;
    else this.#spans.push(span);
    if (this.#spans.length >= BATCH) void this.#send();
    this.#cancel ??= this.#parts.clock.after(SEND_MS, () => void this.#send(), { background: true });
  }

  #send(): Promise<void> {
    this.#cancel?.();
    this.#cancel = null;
    const next = this.#sending.then(() => this.#sendNow());
    this.#sending = next;
    return next;
  }

  async #sendNow(): Promise<void> {
    const spans = this.#spans.splice(0, BATCH);
    if (spans.length === 0) return;
    const { endpoint, clock, log } = this.#parts;
    const late = new AbortController();
    const cancelLate = clock.after(DEADLINE_MS, () => late.abort(new Error(`no answer within ${DEADLINE_MS} ms`)));
    try {
      const { ok, status } = await (this.#parts.post ?? post)(`${endpoint}/v1/traces`, this.#body(spans), late.signal);
      if (!ok) throw new Error(`the collector answered ${status}`);
      if (this.#lost > 0) log.warn("spans were not sent", { lost: this.#lost });
      this.#lost = 0;
    } catch (cause) {
      if (this.#lost === 0) log.warn("spans could not be sent", { endpoint, cause: String(cause) });
      this.#lost += spans.length;
    } finally {
      cancelLate();
    }
    if (this.#spans.length > 0) this.#cancel ??= clock.after(SEND_MS, () => void this.#send(), { background: true });
  }

  #body(spans: readonly Span[]): string {
    const { node, version } = this.#parts;
    const text = (key: string, stringValue: string) => ({ key, value: { stringValue } });
    const resource = [text("service.name", "warren"), text("service.version", version), text("host.name", node)];
    return JSON.stringify({
      resourceSpans: [
        {
          resource: { attributes: resource },
          scopeSpans: [{ scope: { name: "warren" }, spans: spans.map(encoded) }],
        },
      ],
    });
  }
}

function encoded({ name, method, status, requestId, start, end, ...ids }: Span): Record<string, unknown> {
  return {
    ...ids,
    name,
    kind: SERVER,
    startTimeUnixNano: String(start),
    endTimeUnixNano: String(end),
    attributes: [
      { key: "http.request.method", value: { stringValue: method } },
      { key: "http.response.status_code", value: { intValue: String(status) } },
      ...(name === method ? [] : [{ key: "http.route", value: { stringValue: name.slice(method.length + 1) } }]),
      ...(requestId === null ? [] : [{ key: "warren.request_id", value: { stringValue: requestId } }]),
    ],
    status: status >= 500 ? { code: ERROR } : {},
  };
}
