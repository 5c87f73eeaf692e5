/** A server with real books over a fake engine: what its sandboxes use is settled and arrives at a sink; who has no credit is stopped. */
import { expect, test } from "bun:test";
import { newAccount } from "../../../src/api/access/tokens.ts";
import { DEFAULT_SETTINGS } from "../../../src/api/settings.ts";
import { systemClock } from "../../../src/base/clock.ts";
import { startServer } from "../../../src/server/start.ts";
import { Folder, pgliteForm } from "../../db/world.ts";
import { newDatabase } from "../../harness/pglite.ts";
import { until } from "../../harness/until.ts";
import { sinkTo } from "../../sinks/outbox.ts";
import { TestReceiver } from "../../sinks/receivers.ts";
import { fake } from "../parts.ts";

test("A server settles, sends what was used, and hibernates what runs without credit", async () => {
  using folder = new Folder();
  await newDatabase(folder.path);
  const { store, driver } = await pgliteForm(folder.path);
  await using receiver = await TestReceiver.open("openmeter", () => systemClock.wallMs());
  const of = fake({ settings: { ...DEFAULT_SETTINGS, webhooksToPrivate: true } });
  const server = await startServer({ ...of.options, store });
  try {
    const nowMs = systemClock.wallMs();
    await store.createSink(await sinkTo(receiver), nowMs);
    await store.createAccount({
      ...newAccount({ id: "poor", name: "poor", creditUsd: "0.00001" }, {}, nowMs),
      onEmpty: "hibernate",
    });
    const host = of.parts().hostFor("poor");
    const { id } = await host.create({ detached: true });
    const state = async () => (await host.get({ id })).state;
    expect(await state()).toBe("running");
    await until("it is hibernated", async () => (await state()) === "hibernated", 30_000);
    const told = await store.auditLog("poor", { limit: 10, before: null });
    expect(told).toMatchObject([{ actor: "server", action: "hibernateForCredit", target: id }]);
    // The administrator's templates are built meanwhile: that is used too.
    const mine = () => [...receiver.taken.values()].filter(({ customer }) => customer === "poor");
    await until("its use is there", () => mine().length >= 3, 30_000);
    const rows = await driver.query({
      text: "select meter, sum(quantity)::text from billing.intervals where subject = $1 group by meter order by meter",
      parameters: [id],
    });
    const booked = Object.fromEntries(rows);
    expect(Number(booked.vcpu_ms)).toBeGreaterThan(0);
    for (const one of mine())
      if (one.id.startsWith(id)) expect(booked[one.code.replace("warren.", "")]).toBe(one.quantity);
    expect(mine().filter((one) => one.id.startsWith(`${id}:`)).length).toBeGreaterThanOrEqual(3);
    // What it costs is more than it had, by no more than ten seconds of one vCPU and 512 MiB.
    const owed = -Number((await store.account("poor"))?.creditUsd);
    expect(owed).toBeGreaterThanOrEqual(0);
    expect(owed).toBeLessThan(10 * (0.00001 + 0.000002));
    await host.close({ id });
    expect(server.health().reasons.join()).not.toMatch(/books|credit|sinks/);
    expect(of.parts().figures?.hibernations()).toEqual({ done: 1, failed: 0 });
    expect(of.parts().figures?.settleSeconds()).toBeGreaterThan(0);
  } finally {
    await server.close();
  }
}, 120_000);
