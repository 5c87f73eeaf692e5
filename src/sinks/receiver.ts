/** What a kind of receiver is to the sender: how events are written for it, and what its answers mean. Pure. */
import type { Outgoing } from "../api/billing.ts";

export interface WireRequest {
  /** Behind the sink's URL; empty: the URL as it is. */
  readonly path: string;
  readonly contentType: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** What came back; `text` is the beginning of the body. */
export interface Answer {
  readonly status: number;
  /** As a Retry-After says; null: it does not. */
  readonly retryAfterMs: number | null;
  readonly text: string;
}

export type Verdict =
  /** It has it, now or since before. */
  | { readonly kind: "taken" }
  /** Another time may do. `isSure`: nothing of it was taken; false: it may have been. */
  | { readonly kind: "again"; readonly says: string; readonly afterMs: number | null; readonly isSure: boolean }
  /** It is the event's own fault: no further try can succeed. */
  | { readonly kind: "never"; readonly says: string }
  /** It was refused for the sake of another of its batch: without that one it may be sent at once. */
  | { readonly kind: "anew" };

export interface Receiver {
  /** Events in one request. */
  readonly batch: number;
  /** Requests at one time. */
  readonly atOnce: number;
  /** Events with the same key go one after another; null: there is no such need. */
  laneOf(out: Outgoing): string | null;
  /** For so long after it may have been taken, sending it again is known to count once; null: for as long as is tried. */
  readonly knowsForMs: number | null;
  /** When it may be sent, milliseconds since the Unix epoch; left out: at any time. */
  readonly notBeforeMs?: (out: Outgoing) => number;
  /** Why it cannot be sent at this time, for good; null: it can. */
  refuses(out: Outgoing, nowMs: number): string | null;
  /** One to {@link batch} events of one sink. */
  write(outs: readonly Outgoing[], nowMs: number): WireRequest;
  /** A verdict on each, in order. Null: of several, one is at fault and it does not say which. */
  read(answer: Answer, outs: readonly Outgoing[]): readonly Verdict[] | null;
}

/** The operator's to mend: a key that was revoked, a path that is not there, a redirect. Usage must not be lost for that. */
const MENDED: ReadonlySet<number> = new Set([401, 402, 403, 404, 405, 407]);
/** They ask for another try; a conflict is another request with the same key that is under way. */
const LATER: ReadonlySet<number> = new Set([408, 409, 423, 425, 429]);
/** Of these nobody knows what came of the request before. */
const UNSURE: ReadonlySet<number> = new Set([408, 409]);

/** What a status means where a receiver's documentation says nothing else. */
export function judged({ status, retryAfterMs, text }: Answer): Verdict {
  if (status >= 200 && status < 300) return { kind: "taken" };
  const says = saysOf(status, text);
  if (status >= 500) return { kind: "again", says, afterMs: retryAfterMs, isSure: false };
  if (status < 400 || MENDED.has(status) || LATER.has(status))
    return { kind: "again", says, afterMs: retryAfterMs, isSure: !UNSURE.has(status) };
  return { kind: "never", says };
}

const SAID_CHARS = 300;

/** For people, in one line. */
export function saysOf(status: number, text: string): string {
  const said = text.replace(/[\p{Cc}\s]+/gu, " ").trim();
  return `it answered ${status}${said === "" ? "" : `: ${said.slice(0, SAID_CHARS)}`}`;
}

/** The same verdict on all, unless one of several is at fault. */
export function onAll(verdict: Verdict, outs: readonly Outgoing[]): readonly Verdict[] | null {
  return verdict.kind === "never" && outs.length > 1 ? null : outs.map(() => verdict);
}

/** How the sink's receiver knows the account. */
export function customerOf({ sink, event }: Outgoing): string | null {
  return Object.hasOwn(sink.customers, event.account) ? (sink.customers[event.account] ?? null) : null;
}

export function bearer(token: string | null): Readonly<Record<string, string>> {
  return token === null ? {} : { Authorization: `Bearer ${token}` };
}
