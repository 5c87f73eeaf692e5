/** How long the host waits for a guest that says nothing: for ever where that is a command's own affair, and not otherwise. */
import { expect, test } from "bun:test";
import { ASK, SAY } from "../../../src/guest/protocol.ts";
import { LIMITS } from "../../../src/limits.ts";
import { settle } from "../../harness/clock.ts";
import { drain, failure, Played } from "./played.ts";

test("GuestAgent lets a command without a timeout be silent for ever, but not before it has started", async () => {
  const guest = new Played();
  const agent = await guest.agent();
  const late = failure(drain(agent.exec({ cmd: "x", background: true })));
  await guest.request(ASK.EXEC);
  await guest.clock.advance(LIMITS.guestRequestMs - 1);
  expect(await Promise.race([late, settle().then(() => null)])).toBeNull();
  await guest.clock.advance(2);
  expect((await late).code).toBe("guest_unresponsive");

  const followed = agent.attach(7)[Symbol.asyncIterator]().next();
  const { channel } = await guest.request(ASK.ATTACH);
  await guest.clock.advance(24 * 3_600_000);
  await guest.say(SAY.OUT, channel, Uint8Array.of(1));
  expect((await followed).value).toEqual({ kind: "stdout", bytes: Uint8Array.of(1) });
  agent.close();
});

test("GuestAgent holds stdin back for as long as its command does not read it", async () => {
  const guest = new Played();
  const agent = await guest.agent();
  let written = false;
  const writing = agent.stdin(7, "unread").then(() => {
    written = true;
  });
  const { channel } = await guest.request(ASK.STDIN);
  await guest.clock.advance(24 * 3_600_000);
  expect(written).toBe(false);
  await guest.say(SAY.DONE, channel);
  await writing;
  agent.close();
});
