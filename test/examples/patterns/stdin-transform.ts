/** Rows in on stdin, rows out on stdout: the least that a transformation needs. `bun test/examples/patterns/stdin-transform.ts` */
import { Sandbox } from "warren";

const TRANSFORM = `
import json, sys

data = json.load(sys.stdin)
result = [
  {**row, "total": row["price"] * row["quantity"]}
  for row in data
]
json.dump(result, sys.stdout)
`;

const rows = [
  { item: "Widget", price: 9.99, quantity: 100 },
  { item: "Gadget", price: 24.99, quantity: 50 },
];

export async function run(): Promise<unknown> {
  await using sb = await Sandbox.create({ template: "code-interpreter" });
  const result = await sb.python(TRANSFORM, { stdin: JSON.stringify(rows), timeoutSeconds: 60 });
  return JSON.parse(result.stdout);
}

if (import.meta.main) console.log(await run());
