/**
 * Usage to a webhook: one CloudEvent a request, in structured mode (cloudevents/spec, HTTP protocol binding), signed as all of
 * our webhooks are (Standard Webhooks). `webhook-id` is the event's id, for who looks at no more than headers.
 */
import { signed } from "../api/edge/webhooks/sign.ts";
import { cloudEventOf, idWithin } from "./event.ts";
import { judged, onAll, type Receiver } from "./receiver.ts";

const ID_CHARS = 255;

export const webhook: Receiver = {
  batch: 1,
  atOnce: 8,
  laneOf: () => null,
  knowsForMs: null,
  refuses: () => null,
  write([out], nowMs) {
    if (out === undefined) throw new RangeError("there is nothing to write");
    const { event, sink } = out;
    const body = JSON.stringify(cloudEventOf(event, event.account));
    const headers = signed(sink.token ?? "", idWithin(event.id, ID_CHARS), nowMs, body);
    return { path: "", contentType: "application/cloudevents+json", headers, body };
  },
  read: (answer, outs) => onAll(judged(answer), outs),
};
