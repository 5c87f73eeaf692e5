/**
 * Usage to OpenMeter: `POST /api/v1/events` takes CloudEvents, one as `application/cloudevents+json`, several as
 * `application/cloudevents-batch+json`, and answers 204 (openmeter.io/docs/metering/events/overview; its source,
 * openmeter/ingest/httpdriver/ingest.go, compares the content type to the letter: no charset). What has the same source and id
 * counts once. It documents no limit to how old an event may be.
 */
import { cloudEventOf } from "./event.ts";
import { bearer, customerOf, judged, onAll, type Receiver } from "./receiver.ts";

export const openmeter: Receiver = {
  batch: 100,
  atOnce: 2,
  laneOf: () => null,
  knowsForMs: null,
  refuses: () => null,
  write(outs) {
    const events = outs.map((out) => cloudEventOf(out.event, customerOf(out) ?? out.event.account));
    const [only] = events;
    const isOne = events.length === 1;
    return {
      path: "/api/v1/events",
      contentType: isOne ? "application/cloudevents+json" : "application/cloudevents-batch+json",
      headers: bearer(outs[0]?.sink.token ?? null),
      body: JSON.stringify(isOne ? only : events),
    };
  },
  read: (answer, outs) => onAll(judged(answer), outs),
};
