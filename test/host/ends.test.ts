/** What a home keeps of sandboxes that ended while no server was there. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allEnds, endOf, forgetEnd, keepEnd, keepEnds, RECORD } from "../../src/host/home/ends.ts";
import { EXITS } from "../../src/host/jail/exits.ts";

const TIME = { axisMs: 1e12, resumedMs: 100, movedMs: 100, endsMs: null, cpuBeforeMs: null };

let home: string;
let run: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "ends-"));
  run = join(home, "run");
});
afterEach(() => rmSync(home, { recursive: true }));

/** A sandbox's run directory as its maker and the kernel left it. */
function left(id: string, record: string | object, ticks: number | null = 250): void {
  mkdirSync(join(run, id), { recursive: true });
  writeFileSync(join(run, id, RECORD), typeof record === "string" ? record : JSON.stringify(record));
  if (ticks === null) return;
  const view = new DataView(new ArrayBuffer(64));
  view.setUint8(1, 3);
  view.setUint32(16, 2, true);
  view.setFloat32(28, ticks, true);
  writeFileSync(join(run, id, EXITS), new Uint8Array(view.buffer));
}

const record = (id: string) => ({
  ...{ id, account: "acme", info: { id }, env: { SECRET: "s" }, secrets: [{ name: "KEY", value: "v" }], time: TIME },
  ref: { id, pid: 1, startTicks: 1, hostBootId: "boot", socketDir: join(run, id), startMs: 40 },
});

test("An end is kept with what a bill needs and nothing else, where a server has been, until it is forgotten", () => {
  left("sb_1", record("sb_1"));
  keepEnd({ home, run }, "sb_1");
  expect(existsSync(join(home, "server"))).toBe(false); // nobody would ever read it
  keepEnds(home);
  keepEnd({ home, run }, "sb_1");
  const end = { id: "sb_1", account: "acme", info: { id: "sb_1" }, hostBootId: "boot", time: TIME };
  expect(endOf(home, "sb_1")).toEqual({ ...end, end: { atMs: 2540, cpuMs: 0 } } as never);
  expect(statSync(join(home, "server/ended/sb_1.json")).mode & 0o777).toBe(0o600);
  forgetEnd(home, "sb_1");
  forgetEnd(home, "sb_1");
  expect([endOf(home, "sb_1"), allEnds(home)]).toEqual([null, []]);
});

test("An end without the kernel's word is kept as that, and one without a record is none", () => {
  keepEnds(home);
  left("sb_1", record("sb_1"), null);
  mkdirSync(join(run, "sb_2"));
  for (const id of ["sb_1", "sb_2", "sb_3"]) keepEnd({ home, run }, id);
  expect(allEnds(home).map(({ id, end }) => [id, end])).toEqual([["sb_1", null]]);
});

test("Records and ends that a power failure emptied stop nobody, and are removed", () => {
  keepEnds(home);
  left("sb_1", "");
  left("sb_2", '{"id":"sb_');
  left("sb_3", { id: "sb_3", ref: {} }); // of an earlier version
  for (const id of ["sb_1", "sb_2", "sb_3"]) keepEnd({ home, run }, id);
  writeFileSync(join(home, "server/ended/sb_4.json"), "");
  writeFileSync(join(home, "server/ended/.sb_5-x"), "{}");
  expect(allEnds(home)).toEqual([]);
  expect(readdirSync(join(home, "server/ended"))).toEqual([]);
});
