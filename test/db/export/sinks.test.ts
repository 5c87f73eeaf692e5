/** The sinks suite, over both engines; and that no interval is passed over when transactions end in another order than they began. */
import { expect, test } from "bun:test";
import postgres from "postgres";
import { nonce } from "../../../src/base/id.ts";
import { gate } from "../../harness/gates.ts";
import { PrivatePostgres } from "../../harness/stores/postgres.ts";
import { fillAll, newSink, sinksSuite } from "../../suites/store/sinks.ts";
import { account, T0 } from "../../suites/store/world.ts";
import { onBothEngines, postgresForm } from "../world.ts";

onBothEngines(sinksSuite);

if (gate("postgres")) {
  test("Store.fillOutbox passes over nothing, in whichever order those who write end", async () => {
    await using server = await PrivatePostgres.open();
    const url = await server.database();
    const { store, close } = await postgresForm(url);
    const writers = postgres(url, { max: 6, fetch_types: false, onnotice: () => undefined });
    try {
      const mine = await account(store);
      const sink = newSink({ account: mine });
      await store.createSink(sink, T0);
      const wanted: string[] = [];
      const begun: { readonly end: () => void; readonly done: Promise<unknown> }[] = [];
      /** Adds an interval in a transaction that stays open; some never come to be. */
      const begin = async (index: number): Promise<void> => {
        const { promise: ended, resolve: end } = Promise.withResolvers<void>();
        const { promise: added, resolve: isAdded } = Promise.withResolvers<void>();
        const [subject, at] = [`sb_${nonce()}`, new Date(T0 + index * 1000).toISOString()];
        const isKept = index % 5 !== 3;
        const done = writers
          .begin(async (run) => {
            await run`insert into billing.intervals (account, subject, meter, units, during)
              values (${mine}, ${subject}, 'vcpu_ms', 1, tstzrange(${at}::timestamptz, ${at}::timestamptz + interval '1 s'))`;
            isAdded();
            await ended;
            if (!isKept) throw new Error("undone");
          })
          .catch(() => undefined); // some are undone on purpose
        begun.push({ end, done });
        await added;
        if (isKept) wanted.push(`${subject}:vcpu_ms:${T0 + index * 1000}`);
      };
      // A small generator of its own: the same order in every run.
      let seed = 7;
      const below = (limit: number): number => {
        seed = (seed * 48_271) % 2_147_483_647;
        return seed % limit;
      };
      for (let index = 0; index < 120; index++) {
        await begin(index);
        await store.fillOutbox(1000, T0);
        while (begun.length > below(5)) {
          const [one] = begun.splice(below(begun.length), 1);
          one?.end();
          await one?.done;
          await store.fillOutbox(1000, T0);
        }
      }
      for (const { end, done } of begun) {
        end();
        await done;
      }
      await fillAll(store);
      const queued = (await store.dueEvents(T0, 1000, 1000)).map(({ event }) => event.id);
      expect(queued.sort()).toEqual(wanted.sort());
    } finally {
      await writers.end({ timeout: 1 });
      await close();
    }
  }, 120_000);
}
