/** A server whose database is away for a while: what runs goes on, calls fail in time and succeed again, nothing is made twice. */
import { expect, test } from "bun:test";
import { connect } from "../../../src/client.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { gate } from "../../harness/gates.ts";
import { until } from "../../harness/until.ts";
import { withPostgres } from "./with-postgres.ts";

/** How long it is away in the whole test. */
const AWAY_MS = Number(process.env["OUTAGE_SECONDS"] ?? 30) * 1000;
/** A call that needs it is answered within this, with 503. */
const ANSWER_MS = 15_000;

if (gate("root", "vm", "postgres")) {
  const served = withPostgres();

  const post = (path: string, body: object, more: Record<string, string> = {}) =>
    fetch(`${served.server.url}${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${served.server.key}`, "content-type": "application/json", ...more },
      body: JSON.stringify(body),
    });
  const metadata = { suite: "outage" };
  const create = (key: string) => post("/v1/sandboxes", { ttl_seconds: 900, metadata }, { "idempotency-key": key });
  const idOf = async (answer: Response): Promise<string> => ((await answer.json()) as { id: string }).id;

  test(
    `A database that is away for ${AWAY_MS / 1000} s`,
    async () => {
      const { host } = connect({ url: served.server.url, key: served.server.key });
      await using box = await Sandbox.create({ ttlSeconds: 900, metadata }, host);
      await box.exec("(while :; do date +%s >> /tmp/ticks; sleep 1; done) > /dev/null 2>&1 &");
      const before = await create("before");
      expect(before.status).toBe(201);
      const known = await idOf(before);

      await served.database.stop();
      const awayAt = performance.now();
      const refused = await create("during");
      expect(performance.now() - awayAt).toBeLessThan(ANSWER_MS);
      expect(refused.status).toBe(503);
      expect(await refused.json()).toMatchObject({ code: "store_unavailable" });
      const again = await create("during");
      expect(again.status).toBe(503);
      const none = await post("/v1/me/tokens", { label: "none" });
      expect(none.status).toBe(503);
      await none.arrayBuffer();
      await until("the time that it is to be away", () => performance.now() - awayAt > AWAY_MS, 2 * AWAY_MS);
      await served.database.start();

      await until("creates again", async () => {
        const answer = await create("during");
        await answer.arrayBuffer();
        return answer.status === 201 || answer.status === 200;
      });
      const made = await idOf(await create("during"));
      expect(await idOf(await create("during"))).toBe(made);
      expect(await idOf(await create("before"))).toBe(known);
      const ids = (await Sandbox.list({ metadata }, host)).map(({ id }) => id);
      expect(ids.toSorted()).toEqual([box.id, known, made].toSorted());

      const ticks = (await box.exec("cat /tmp/ticks")).stdout.trim().split("\n").map(Number);
      const gaps = ticks.slice(1).map((tick, i) => tick - (ticks[i] ?? 0));
      expect(ticks.length).toBeGreaterThan((AWAY_MS / 1000) * 0.8);
      expect(Math.max(...gaps)).toBeLessThan(5);
      // What happened meanwhile is written when it is back.
      await until("its first moves", async () => {
        const answer = await fetch(`${served.server.url}/v1/sandboxes/${made}/events?tail=10`, {
          headers: { authorization: `Bearer ${served.server.key}`, accept: "application/json" },
        });
        return (await answer.text()).includes("running");
      });
      for (const id of [known, made]) await host.close({ id });
    },
    AWAY_MS + 180_000,
  );
}
