/** The real keeper's command over a home in which nothing has a network: one at a time, in nobody's help text, gone with the home. */
import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { readConfig } from "../../src/config.ts";
import { isKept } from "../../src/keeper/client.ts";
import { keeperOf } from "../../src/keeper/start.ts";
import { cli } from "../harness/cli.ts";
import { gate } from "../harness/gates.ts";
import { keepersOf } from "../harness/leaks.ts";
import { until } from "../harness/until.ts";

const made: string[] = [];

function newHome(...folders: readonly string[]): string {
  const home = mkdtempSync(join(tmpdir(), "keep-"));
  for (const name of folders) mkdirSync(join(home, name));
  made.push(home);
  return home;
}

afterAll(() => {
  for (const home of made) rmSync(home, { recursive: true, force: true });
});

test("warren keep-network is started by others: no help text names it", async () => {
  expect((await cli(["--help"])).out).not.toContain("keep-network");
  expect((await cli(["keep-network", "--help"])).out).toContain("Usage: warren keep-network");
});

if (gate("root")) {
  test("warren keep-network keeps one home, once, and warren clean ends it before it removes that home", async () => {
    const home = newHome("bin", "run", "slots", "data");
    const unknown = keeperOf({ ...readConfig({}), home }, systemClock).log("sb_unknown");
    await expect(unknown).rejects.toMatchObject({ code: "not_found" });
    expect(keepersOf(home).length).toBe(1);
    // A second one sees the first and has nothing to do.
    expect(await cli(["keep-network"], { env: { WARREN_HOME: home } })).toMatchObject({ code: 0, out: "", err: "" });
    expect(await isKept({ home, clock: systemClock })).toBe(true);
    expect((await cli(["clean", "--yes"], { env: { WARREN_HOME: home } })).code).toBe(0);
    expect(existsSync(home)).toBe(false);
    await until("it has ended", () => keepersOf(home).length === 0);
  }, 60_000);

  test("warren keep-network in a folder that is no home, or with a setting that is none, says so", async () => {
    const { code, err } = await cli(["keep-network"], { env: { WARREN_HOME: newHome() } });
    expect([code, err]).toEqual([2, expect.stringContaining("not the home of any sandbox")]);
    const wrong = await cli(["keep-network"], { env: { WARREN_HOME: newHome("slots"), WARREN_DNS: "1.2.3" } });
    expect([wrong.code, wrong.err]).toEqual([2, expect.stringContaining("WARREN_DNS")]);
  });
}
