/**
 * Usage to Stripe: `POST /v1/billing/meter_events`, form-encoded, one event a request (docs.stripe.com/api/billing/meter-event/
 * create and …/usage-based/recording-usage-api).
 *
 * - Its clock: a timestamp within the past 35 calendar days and at most 5 minutes ahead. What is older is given up, loudly; it
 *   is not given another time, which would put it on another invoice. What is ahead waits until its time has come.
 * - `identifier` (100 characters) is unique for at least 24 hours: one that it has is refused with 400 "An event already exists
 *   with identifier …", which is as good as taken. After a day it may be counted again: an event that may have been taken so
 *   long ago is given up and not sent twice.
 * - Values are whole numbers, one call at a time for each customer and meter.
 * - What an Idempotency-Key was answered is answered again for a day, errors 500 too (docs.stripe.com/api/idempotent_requests):
 *   so each try has its own, and a try that is repeated after a crash has the same.
 */
import type { Outgoing } from "../api/billing.ts";
import { codeOf, idWithin } from "./event.ts";
import { type Answer, bearer, customerOf, judged, type Receiver, type Verdict } from "./receiver.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** An hour less than promised: clocks differ, and a request takes a while. */
const PAST_MS = 35 * DAY_MS - HOUR_MS;
/** Of the five minutes half: the other half is for the difference between its clock and ours. */
const AHEAD_MS = 150_000;
const KNOWS_MS = 23 * HOUR_MS;
const ID_CHARS = 100;

const KNOWN = /An event already exists with identifier|"code":\s*"duplicate_meter_event"/;

function refuses(out: Outgoing, nowMs: number): string | null {
  const { account, fromMs, quantity } = out.event;
  if (customerOf(out) === null) return `it has no customer for the account ${account}`;
  if (!/^\d+$/.test(quantity)) return `it takes whole numbers, not ${quantity}`;
  if (fromMs < nowMs - PAST_MS) return "it takes nothing that is older than 35 days";
  return null;
}

function read(answer: Answer, outs: readonly Outgoing[]): readonly Verdict[] {
  const isKnown = answer.status === 400 && KNOWN.test(answer.text);
  const verdict: Verdict = isKnown ? { kind: "taken" } : judged(answer);
  return outs.map(() => verdict);
}

export const stripe: Receiver = {
  batch: 1,
  atOnce: 8,
  laneOf: (out) => `${out.event.meter} ${customerOf(out) ?? ""}`,
  knowsForMs: KNOWS_MS,
  notBeforeMs: ({ event }) => event.fromMs - AHEAD_MS,
  refuses,
  write([out]) {
    if (out === undefined) throw new RangeError("there is nothing to write");
    const { event, tries, sink } = out;
    const identifier = idWithin(event.id, ID_CHARS);
    const body = new URLSearchParams([
      ["event_name", codeOf(event.meter)],
      ["identifier", identifier],
      ["timestamp", String(Math.floor(event.fromMs / 1000))],
      ["payload[stripe_customer_id]", customerOf(out) ?? ""],
      ["payload[value]", event.quantity],
    ]);
    return {
      path: "/v1/billing/meter_events",
      contentType: "application/x-www-form-urlencoded",
      headers: { ...bearer(sink.token), "Idempotency-Key": `${identifier}.${tries}` },
      body: body.toString(),
    };
  },
  read,
};
