/** A keeper that nobody ended is seen by the tests' look for leaks, of its own home alone. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { COMMAND_ENV, startApart } from "../../src/host/run.ts";
import { startTicksOf } from "../../src/host/slots/process-name.ts";
import { more, traces } from "../harness/leaks.ts";
import { until } from "../harness/until.ts";

test("A stray keeper is a leak of its home, whoever is its parent", async () => {
  const homes = [1, 2].map(() => mkdtempSync(join(tmpdir(), "keeper-leak-")));
  const [home = "", other = ""] = homes;
  const before = [traces(home), traces(other)] as const;
  // What its starter leaves behind when it ends: here a shell that ends at once.
  const code = "setInterval(() => undefined, 1000)";
  const script = `"$0" -e "${code}" keep-network & echo $! > "$WARREN_HOME/pid"`;
  await startApart(["/bin/sh", "-c", script, process.execPath], { ...COMMAND_ENV, WARREN_HOME: home }).exited;
  const pid = Number(await Bun.file(join(home, "pid")).text());
  try {
    const seen = () => more(before[0], traces(home)).filter((line) => line.startsWith("process"));
    await until("it is seen", () => seen().length > 0);
    expect(seen()).toEqual([expect.stringMatching(/^process bun/)]);
    expect(more(before[1], traces(other))).toEqual([]);
  } finally {
    process.kill(pid, "SIGKILL");
    await until("it is gone", () => startTicksOf(pid) === null);
    for (const each of homes) rmSync(each, { recursive: true });
  }
});
