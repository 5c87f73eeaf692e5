/**
 * Many documents, each transformed by code of its own in a sandbox of its own: one bad input is one failed result and
 * nothing else. `bun test/examples/patterns/batch-transform.ts`
 */
import { Sandbox } from "warren";

const PIPELINE = `
import json, sys
with open(sys.argv[1]) as f:
    rows = json.load(f)
totals = {}
for row in rows:
    totals[row["category"]] = totals.get(row["category"], 0) + row["amount"]
with open(sys.argv[2], "w") as f:
    json.dump(totals, f)
`;

const documents: Readonly<Record<string, string>> = {
  january: JSON.stringify([
    { category: "rent", amount: 900 },
    { category: "food", amount: 310 },
    { category: "food", amount: 55 },
  ]),
  february: JSON.stringify([{ category: "rent", amount: 900 }]),
  broken: "this is not JSON",
};

export type Processed = { readonly id: string } & ({ readonly output: unknown } | { readonly error: string });

async function processOne(id: string, document: string): Promise<Processed> {
  await using sb = await Sandbox.create({ template: "code-interpreter", cpu: 1, memoryMb: 512 });
  await sb.files.write("/tmp/input.json", document);
  await sb.files.write("/pipeline.py", PIPELINE);
  const result = await sb.exec("python3 /pipeline.py /tmp/input.json /tmp/output.json", { timeoutSeconds: 60 });
  if (result.exitCode !== 0) return { id, error: result.stderr };
  return { id, output: JSON.parse(await sb.files.readText("/tmp/output.json")) };
}

export async function run(): Promise<Processed[]> {
  return await Promise.all(Object.entries(documents).map(([id, document]) => processOne(id, document)));
}

if (import.meta.main) for (const result of await run()) console.log(JSON.stringify(result));
