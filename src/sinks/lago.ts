/**
 * Usage to Lago: `POST /api/v1/events` with `{event}`, `/api/v1/events/batch` with `{events}`, 100 at most
 * (getlago/lago-openapi, EventInputObject and events_batch; getlago.com/docs/api-reference/events/batch). `timestamp` is in
 * seconds, with milliseconds as decimals of a string. A transaction_id that it has is refused with 422 `value_already_exist`,
 * for each event of a batch by its index, and then takes none of the batch (its source: events/create_batch_service.rb): that
 * one it has, and the others are sent again. No bound of an event's age is documented. `precise_total_amount_cents` is only
 * for charges whose amounts the sender decides; here Lago's own plan does, so it is left out.
 */
import type { Outgoing } from "../api/billing.ts";
import { codeOf, isoOf } from "./event.ts";
import { type Answer, bearer, customerOf, judged, onAll, type Receiver, saysOf, type Verdict } from "./receiver.ts";

const KNOWN = "value_already_exist";

function eventOf(out: Outgoing) {
  const { event } = out;
  const { account, subject, meter, template, fromMs, toMs, quantity } = event;
  return {
    transaction_id: event.id,
    external_subscription_id: customerOf(out),
    code: codeOf(meter),
    timestamp: secondsOf(fromMs),
    properties: {
      ...{ quantity, meter, account, subject, from: isoOf(fromMs), to: isoOf(toMs) },
      ...(template === null ? {} : { template }),
    },
  };
}

/** Milliseconds as decimal seconds, without a float. */
function secondsOf(ms: number): string {
  const whole = Math.floor(ms / 1000);
  return `${whole}.${String(ms - whole * 1000).padStart(3, "0")}`;
}

type Details = Readonly<Record<string, unknown>>;

function detailsOf(text: string): Details | null {
  try {
    const said = JSON.parse(text) as { readonly error_details?: unknown } | null;
    const details = said?.error_details;
    return typeof details === "object" && details !== null && !Array.isArray(details) ? (details as Details) : null;
  } catch {
    return null; // not what Lago says: then its status has to do
  }
}

/** Null: nothing is wrong with this one. */
function judgedOne(details: unknown): Verdict | null {
  if (typeof details !== "object" || details === null) return null;
  const wrong = Object.entries(details as Details).flatMap(([field, codes]) =>
    (Array.isArray(codes) ? codes : [codes]).map((code) => ({ field, code: String(code) })),
  );
  if (wrong.length === 0) return null;
  // It has it. What else is wrong with it does not matter any more.
  if (wrong.some(({ field, code }) => field === "transaction_id" && code === KNOWN)) return { kind: "taken" };
  return { kind: "never", says: saysOf(422, wrong.map(({ field, code }) => `${field}: ${code}`).join(", ")) };
}

/** Of a batch that was refused for some of its events. */
function judgedEach(details: Details, outs: readonly Outgoing[]): readonly Verdict[] | null {
  const verdicts = outs.map((_, i) => judgedOne(details[String(i)]));
  if (verdicts.every((verdict) => verdict === null)) return null;
  return verdicts.map((verdict) => verdict ?? { kind: "anew" });
}

function read(answer: Answer, outs: readonly Outgoing[]): readonly Verdict[] | null {
  const details = answer.status === 422 ? detailsOf(answer.text) : null;
  if (details === null) return onAll(judged(answer), outs);
  if (outs.length > 1) return judgedEach(details, outs);
  return [judgedOne(details) ?? judged(answer)];
}

export const lago: Receiver = {
  batch: 100,
  atOnce: 1,
  laneOf: () => null,
  knowsForMs: null,
  refuses: (out) => (customerOf(out) === null ? `it has no subscription for the account ${out.event.account}` : null),
  write(outs) {
    const events = outs.map(eventOf);
    const isOne = events.length === 1;
    return {
      path: isOne ? "/api/v1/events" : "/api/v1/events/batch",
      contentType: "application/json",
      headers: bearer(outs[0]?.sink.token ?? null),
      body: JSON.stringify(isOne ? { event: events[0] } : { events }),
    };
  },
  read,
};
