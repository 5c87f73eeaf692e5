/** Usage arrives although whoever sends it is killed again and again: nothing is missing, and what came twice can be told. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { systemClock } from "../../../src/base/clock.ts";
import { nonce } from "../../../src/base/id.ts";
import type { SinkInfo } from "../../../src/contract/routes/api/billing.ts";
import { gate } from "../../harness/gates.ts";
import { PrivatePostgres } from "../../harness/stores/postgres.ts";
import { until } from "../../harness/until.ts";
import { sinkTo } from "../../sinks/outbox.ts";
import { TestReceiver } from "../../sinks/receivers.ts";
import { addInterval } from "../../suites/store/sinks.ts";
import { account, T0 } from "../../suites/store/world.ts";
import { postgresForm } from "../world.ts";

const KINDS: readonly SinkInfo["kind"][] = ["webhook", "openmeter", "lago", "stripe"];
const KILLS = 12;
const EACH = 60;
/** What a killed process had claimed is due again after its lease: each process's clock is that much ahead of the last one's. */
const AHEAD_MS = 61_000;

if (gate("postgres")) {
  test("Usage arrives although whoever sends it is killed", async () => {
    await using server = await PrivatePostgres.open();
    const url = await server.database();
    const { store, driver, close } = await postgresForm(url);
    await using stack = new AsyncDisposableStack();
    stack.defer(close);
    let aheadMs = 0;
    const mine = await account(store);
    const receivers = await Promise.all(
      KINDS.map((kind) => TestReceiver.open(kind, () => systemClock.wallMs() + aheadMs)),
    );
    for (const receiver of receivers) {
      stack.use(receiver);
      const customers =
        receiver.kind === "lago" ? { [mine]: "sub_a" } : receiver.kind === "stripe" ? { [mine]: "cus_a" } : {};
      await store.createSink({ ...(await sinkTo(receiver)), customers }, systemClock.wallMs());
    }
    const start = () =>
      Bun.spawn([process.execPath, join(import.meta.dir, "child.ts"), url, String(aheadMs)], {
        stdout: "ignore",
        stderr: "inherit",
      });
    // Stripe takes nothing that is older than 35 days, nor what is ahead.
    const anHourAgo = Math.floor((systemClock.wallMs() - T0) / 1000) - 3600;
    const wanted: string[] = [];
    const arrived = () => receivers.reduce((sum, { taken }) => sum + taken.size, 0);
    for (let kill = 0; kill < KILLS; kill++) {
      for (let i = 0; i < EACH; i++) wanted.push(await addInterval(driver, mine, `sb_${nonce()}`, anHourAgo));
      const before = arrived();
      const child = start();
      await until("some of it arrived", () => arrived() > before + kill * 7, 60_000);
      child.kill("SIGKILL");
      await child.exited;
      aheadMs += AHEAD_MS;
    }
    const last = start();
    const waiting = async () => [...(await store.outboxWaiting()).values()].reduce((sum, count) => sum + count, 0);
    await until(
      "all of it arrived",
      async () => arrived() >= wanted.length * KINDS.length && (await waiting()) === 0,
      120_000,
    );
    last.kill("SIGKILL");
    await last.exited;
    for (const receiver of receivers) {
      expect(receiver.refusals).toEqual([]);
      expect([...receiver.taken.keys()].sort()).toEqual(wanted.toSorted());
    }
    expect(receivers.some(({ duplicates }) => duplicates > 0)).toBe(true);
  }, 300_000);
}
