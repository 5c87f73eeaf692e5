/** A process that sends usage until it is killed: the database's URL, and how far its wall clock is ahead. */
import { systemClock } from "../../../src/base/clock.ts";
import { createLog } from "../../../src/base/log.ts";
import { openStore } from "../../../src/db/store.ts";
import { SinkSender } from "../../../src/sinks/sender.ts";

const [url = "", ahead = "0"] = process.argv.slice(2);
const clock = { ...systemClock, wallMs: () => systemClock.wallMs() + Number(ahead) };
const log = createLog("error");
const store = await openStore({ url, dir: "", clock, log, node: "node-1" });
const sender = new SinkSender({
  ...{ store, clock, log, allowPrivate: true, resolve: async () => ["127.0.0.1"] },
  told: () => undefined,
});
for (;;) {
  await store.fillOutbox(100, clock.wallMs());
  await sender.wake();
  await clock.sleep(20);
}
