/** The embedded database: one process at a time, kept over a kill, off the event loop, and part of a compiled binary. */
import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { openPglite } from "../../src/db/pglite.ts";
import { openStore } from "../../src/db/store.ts";
import { isWarrenError } from "../../src/errors.ts";
import { FakeClock } from "../harness/clock.ts";
import { newDatabase } from "../harness/pglite.ts";
import { until } from "../harness/until.ts";
import { account, booking, codeOf, LIFE, movesOf, newId } from "../suites/store/world.ts";
import { Folder, parts } from "./world.ts";

const ROOT = join(import.meta.dir, "../..");
const CHILD = join(import.meta.dir, "child.ts");
const SLOW_MS = 240_000;

/** Another process with the store of a folder; what it says, line by line. */
function start(command: readonly string[]) {
  const child = Bun.spawn([...command], { cwd: "/", stdin: "pipe", stdout: "pipe", stderr: "inherit" });
  const lines = (async function* () {
    let rest = "";
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
      const parts = (rest + chunk).split("\n");
      rest = parts.pop() ?? "";
      yield* parts;
    }
  })();
  const next = async () => (await lines.next()).value ?? "it has ended";
  return { child, next };
}

describe("PGlite", () => {
  test(
    "openStore refuses a folder that another process has open, and takes it over when that was killed, with all that was answered",
    async () => {
      using folder = new Folder();
      await newDatabase(folder.path);
      const { child, next } = start([process.execPath, CHILD, folder.path]);
      const mine = await next();
      expect(mine).toStartWith("acc-");
      const refused = await openStore({ ...parts, url: null, dir: folder.path }).then(
        () => null,
        (thrown: unknown) => thrown,
      );
      expect(isWarrenError(refused, "wrong_state") && refused.message).toContain("open in another process");
      let last = 0;
      while (last < 200) last = Number(await next());
      child.kill("SIGKILL");
      await child.exited;
      for (let line = await next(); line !== "it has ended"; line = await next()) last = Number(line);
      await using store = await openStore({ ...parts, url: null, dir: folder.path });
      const { sandboxes } = await store.inUse(mine);
      expect(sandboxes).toBeGreaterThanOrEqual(last);
      expect(sandboxes).toBeLessThanOrEqual(last + 1);
    },
    SLOW_MS,
  );

  test(
    "openStore finds again what an earlier one has written, in the same process too, one after the other",
    async () => {
      using folder = new Folder();
      await newDatabase(folder.path);
      const id = newId();
      let mine = "";
      {
        await using store = await openStore({ ...parts, url: null, dir: folder.path });
        expect(store.note).toContain("power cut");
        mine = await account(store, { creditUsd: "1" });
        await store.record(movesOf(mine, id, LIFE));
        const refused = await openStore({ ...parts, url: null, dir: folder.path }).then(
          () => null,
          (thrown: unknown) => thrown,
        );
        expect(isWarrenError(refused, "wrong_state")).toBe(true);
      }
      await using store = await openStore({ ...parts, url: null, dir: folder.path });
      expect((await store.events(mine, id, 10))?.length).toBe(4);
      expect((await store.account(mine))?.creditUsd).toBe("0.99928");
      expect(await store.admit(mine, [booking()], null)).toEqual({ kind: "booked" });
    },
    SLOW_MS,
  );

  test(
    "openStore makes the database again when it was killed as it made it",
    async () => {
      using folder = new Folder();
      const { child } = start([process.execPath, CHILD, folder.path]);
      await until("it is being made", () => existsSync(join(folder.path, "making", "PG_VERSION")), SLOW_MS);
      child.kill("SIGKILL");
      await child.exited;
      expect(existsSync(join(folder.path, "data"))).toBe(false);
      await using store = await openStore({ ...parts, url: null, dir: folder.path });
      await store.ping();
      expect(existsSync(join(folder.path, "making"))).toBe(false);
    },
    SLOW_MS,
  );

  test(
    "A database that stops in the middle of a statement is begun again, with all that was answered",
    async () => {
      using folder = new Folder();
      await newDatabase(folder.path);
      const clock = new FakeClock();
      const driver = await openPglite(folder.path, { clock });
      const ask = (text: string) => driver.query({ text, parameters: [] });
      await driver.script("create table kept (n integer)");
      await ask("insert into kept values (1)");
      // As on a full disk: no file for the log can be made, which the database does not outlive.
      const [log, away] = [join(folder.path, "data/pg_wal"), join(folder.path, "data/away")];
      renameSync(log, away);
      await ask("select pg_switch_wal()");
      expect(await codeOf(ask("insert into kept values (2)"))).toBe("store_unavailable");
      const stuck = Promise.all([codeOf(ask("checkpoint")), codeOf(ask("select n from kept"))]);
      await until("both wait with a deadline", () => clock.waiting >= 2);
      await clock.advance(31_000);
      expect(await stuck).toEqual(["store_unavailable", "store_unavailable"]);
      expect(await codeOf(ask("select n from kept"))).toBe("store_unavailable");
      renameSync(away, log);
      const again = await Promise.all([ask("select n from kept"), ask("select n from kept")]);
      expect(again).toEqual([[[1]], [[1]]]);
      await ask("insert into kept values (3)");
      await driver[Symbol.asyncDispose]();
      await using later = await openPglite(folder.path, parts);
      expect(await later.query({ text: "select n from kept order by n", parameters: [] })).toEqual([[1], [3]]);
      const counted = { text: "select reltuples::integer from pg_class where relname = 'kept'", parameters: [] };
      expect(await later.query(counted)).toEqual([[-1]]);
      await later.tidy(["kept"]); // no process of the database's own does so
      expect(await later.query(counted)).toEqual([[2]]);
    },
    SLOW_MS,
  );

  test(
    "A long statement does not stop this process, and a driver that was closed answers store_unavailable",
    async () => {
      using folder = new Folder();
      await newDatabase(folder.path);
      const driver = await openPglite(folder.path, parts);
      const report = driver.query({
        text: "select count(*) from generate_series(1, 3000000) as n where n % 7 = $1",
        parameters: [3],
      });
      let longestMs = 0;
      let done = false;
      const rows = report.finally(() => {
        done = true;
      });
      let turns = 0;
      const startMs = systemClock.monotonicMs();
      for (let lastMs = startMs; !done; turns++) {
        await new Promise<void>((resolve) => setImmediate(resolve));
        const nowMs = systemClock.monotonicMs();
        longestMs = Math.max(longestMs, nowMs - lastMs);
        lastMs = nowMs;
      }
      expect(await rows).toEqual([["428572"]]);
      expect(longestMs).toBeLessThan((systemClock.monotonicMs() - startMs) / 2);
      expect(turns).toBeGreaterThan(10);
      await driver[Symbol.asyncDispose]();
      await driver[Symbol.asyncDispose]();
      const late = await driver.query({ text: "select 1", parameters: [] }).then(
        () => null,
        (thrown: unknown) => thrown,
      );
      expect(isWarrenError(late, "store_unavailable")).toBe(true);
    },
    SLOW_MS,
  );

  test(
    "A compiled binary has the database and its migrations in it",
    async () => {
      using folder = new Folder();
      const binary = join(folder.path, "binary");
      const entries = [CHILD, join(ROOT, "src/db/pglite/worker.ts")];
      const build = Bun.spawn(
        [process.execPath, "build", "--compile", "--root", ROOT, ...entries, "--outfile", binary],
        {
          ...{ cwd: ROOT, stdout: "ignore", stderr: "inherit" },
        },
      );
      expect(await build.exited).toBe(0);
      const dir = join(folder.path, "store");
      mkdirSync(dir);
      const { child, next } = start([binary, dir]);
      expect(await next()).toStartWith("acc-");
      expect(await next()).toBe("1");
      child.kill("SIGKILL");
      await child.exited;
    },
    SLOW_MS,
  );
});
