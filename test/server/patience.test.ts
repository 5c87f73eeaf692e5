/** A connection is renewed for as long as its request is worked on, and no longer. */
import { expect, test } from "bun:test";
import type { ApiServer } from "../../src/api/parts.ts";
import { IDLE_SECONDS, Patience } from "../../src/server/patience.ts";
import { FakeClock } from "../harness/clock.ts";

test("Patience renews the requests that are worked on, and has no timer once there are none", async () => {
  const clock = new FakeClock();
  const renewed: [Request, number][] = [];
  const server = {
    timeout: (of: Request, seconds: number) => void renewed.push([of, seconds]),
  } as unknown as ApiServer;
  const patience = new Patience(clock);
  const request = new Request("http://t.test/");
  const work = Promise.withResolvers<string>();
  const answer = patience.during(request, server, () => work.promise);
  await clock.advance((IDLE_SECONDS - 1) * 1000);
  expect(renewed.length).toBeGreaterThanOrEqual(3);
  // A stream that is let in has no bound: it must not get one back.
  expect(renewed.every(([of, seconds]) => of === request && seconds === 0)).toBe(true);
  work.resolve("done");
  expect(await answer).toBe("done");
  const before = renewed.length;
  await clock.advance(IDLE_SECONDS * 1000);
  expect([renewed.length, clock.waiting]).toEqual([before, 0]);
});
