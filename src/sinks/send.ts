/** One request to a receiver: to an address that was looked at, held to a time, its answer read as far as it is needed. */
import type { Sink } from "../api/billing.ts";
import { publicAddress, type Resolve, webhookUrl } from "../api/edge/webhooks/address.ts";
import { reply } from "../api/edge/webhooks/reply.ts";
import { within } from "../api/edge/webhooks/within.ts";
import type { Clock } from "../base/clock.ts";
import { LIMITS } from "../limits.ts";
import { retryAfterMs } from "./pace.ts";
import type { Answer, WireRequest } from "./receiver.ts";

export interface Way {
  readonly clock: Clock;
  readonly resolve: Resolve;
  /** Receivers may be at private and loopback addresses. */
  readonly allowPrivate: boolean;
  /** Certificates that are trusted beside the system's, PEM. */
  readonly ca?: string;
}

/** `failed`: without an answer. `isSure`: nothing was sent. */
export type Heard =
  | ({ readonly kind: "answered" } & Answer)
  | { readonly kind: "failed"; readonly says: string; readonly isSure: boolean };

/** Where events of a sink go: its URL with the receiver's path behind it, unless it ends with that. */
export function urlOf(text: string, path: string): URL {
  const url = webhookUrl(text);
  const base = url.pathname.replace(/\/+$/, "");
  if (path !== "" && !base.endsWith(path)) url.pathname = `${base}${path}`;
  return url;
}

/** Never fails; `signal` cuts it off. */
export async function send(
  sink: Sink,
  { path, ...request }: WireRequest,
  { clock, resolve, allowPrivate, ca }: Way,
  signal: AbortSignal,
): Promise<Heard> {
  let isSent = false;
  const sent = (): void => {
    isSent = true;
  };
  try {
    return await within(clock, LIMITS.sinkAnswerMs, signal, async (either): Promise<Heard> => {
      const url = urlOf(sink.url, path);
      const address = await publicAddress(url, resolve, allowPrivate);
      either.throwIfAborted();
      const trust = ca === undefined ? {} : { ca };
      const {
        status,
        headers,
        text: said,
      } = await reply({
        ...{ url, address, ...request, signal: either, sent },
        ...trust,
      });
      const wait = headers.find(([name]) => name === "retry-after")?.[1];
      // What it says is kept and shown; some repeat what they were sent.
      const text = sink.token === null ? said : said.replaceAll(sink.token, "…");
      return { kind: "answered", status, text, retryAfterMs: retryAfterMs(wait, clock.wallMs()) };
    });
  } catch (cause) {
    return { kind: "failed", says: cause instanceof Error ? cause.message : String(cause), isSure: !isSent };
  }
}
