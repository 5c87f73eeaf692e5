/** The example items: as many and as mixed as promised, usable, the same every time. */
import { describe, expect, test } from "bun:test";
import { jobOf } from "../../src/batch/items/item.ts";
import { csvOf, type ExampleItem, exampleItems, PROGRAM_NAMES, TABLES, tableOf } from "./items.ts";

async function items(): Promise<ExampleItem[]> {
  const found: ExampleItem[] = [];
  for await (const item of exampleItems()) found.push(item);
  return found;
}

describe("exampleItems", () => {
  test("exampleItems are several hundred usable items with ids of their own, always in the same order", async () => {
    const first = await items();
    expect(first.length).toBeGreaterThanOrEqual(400);
    expect(new Set(first.map((item) => item.id)).size).toBe(first.length);
    for (const item of first) expect(jobOf(item).key).toBe(item.id);
    expect((await items()).map((item) => item.id)).toEqual(first.map((item) => item.id));
  });

  test("exampleItems begin with 24 different programs over 12 tables or more, hostile ones among them", async () => {
    const names = (await items()).slice(0, 24).map((item) => item.id.split("."));
    expect(new Set(names.map(([program]) => program)).size).toBe(24);
    expect(new Set(names.map(([, table]) => table)).size).toBeGreaterThanOrEqual(12);
    for (const program of ["fork-bomb", "endless-loop", "exit-three"]) {
      expect(names.map(([name]) => name)).toContain(program);
    }
  });

  test("exampleItems use every program of the folder", async () => {
    const files = await Array.fromAsync(new Bun.Glob("*.py").scan(`${import.meta.dir}/programs`));
    expect(files.map((file) => file.replace(".py", "")).sort()).toEqual([...PROGRAM_NAMES].sort());
    expect(PROGRAM_NAMES.length).toBeGreaterThanOrEqual(24);
  });
});

test("tableOf reads every table as flat rows, and csvOf writes them so that Python reads them back", async () => {
  for (const table of TABLES) {
    const rows = await tableOf(table);
    expect(rows.length).toBeGreaterThan(5);
    const script = "import csv, io, json, sys; print(json.dumps(list(csv.DictReader(io.StringIO(sys.stdin.read())))))";
    const python = Bun.spawnSync(["python3", "-c", script], { stdin: Buffer.from(csvOf(rows)) });
    const back = JSON.parse(python.stdout.toString());
    const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
    const want = rows.map((row) =>
      Object.fromEntries(names.map((name) => [name, row[name] == null ? "" : String(row[name])])),
    );
    expect(back).toEqual(want);
  }
});
