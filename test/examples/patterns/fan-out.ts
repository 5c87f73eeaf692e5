/**
 * Model-written code over a list of items: one sandbox per item, the item in `/work/input.json`, the answer in
 * `/work/result.json`, two layers against an item that never ends. The "model" here is a table of canned answers, one of
 * them an endless loop. `bun test/examples/patterns/fan-out.ts`
 */
import { Sandbox } from "warren";

const ITEM_BUDGET_SECONDS = 20;
const POOL_SIZE = 4;

interface Item {
  readonly id: string;
  readonly text: string;
}

export type Outcome = { readonly id: string } & (
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly error: string }
);

const READ = "import json\nwith open('/work/input.json') as f:\n    item = json.load(f)\n";
const WRITE = "\nwith open('/work/result.json', 'w') as f:\n    json.dump(answer, f)\nprint('ok')\n";

/** Stands in for a language model: what it would have answered for each item. */
function generateCode(item: Item): string {
  if (item.id === "loop") return `${READ}while True: pass\n`;
  if (item.id === "typo") return `${READ}answer = item['txet']${WRITE}`;
  return `${READ}import re\nanswer = {'total': sum(float(x) for x in re.findall(r'\\d+\\.\\d\\d', item['text']))}${WRITE}`;
}

async function processItem(item: Item): Promise<Outcome> {
  // The ttl is the backstop: it ends the machine even when this program is gone.
  await using sb = await Sandbox.create({
    template: "code-interpreter",
    ttlSeconds: ITEM_BUDGET_SECONDS + 10,
    metadata: { item_id: item.id },
  });
  await sb.files.write("/work/input.json", JSON.stringify(item));
  await sb.files.write("/work/run.py", generateCode(item));
  const budget = item.id === "loop" ? 2 : ITEM_BUDGET_SECONDS;
  const r = await sb.exec("cd /work && python3 run.py", { timeoutSeconds: budget });
  if (r.exitCode !== 0) return { id: item.id, ok: false, error: r.timedOut ? "timed out" : r.stderr.slice(-500) };
  return { id: item.id, ok: true, result: JSON.parse(await sb.files.readText("/work/result.json")) };
}

export async function run(): Promise<Outcome[]> {
  const items: Item[] = [
    { id: "a", text: "lamp 12.50, shade 7.25" },
    { id: "loop", text: "" },
    { id: "typo", text: "1.00" },
    { id: "b", text: "desk 99.99" },
  ];
  const results: Outcome[] = [];
  const queue = items.values();
  const worker = async (): Promise<void> => {
    for (const item of queue) results.push(await processItem(item));
  };
  await Promise.all(Array.from({ length: POOL_SIZE }, worker));
  return results;
}

if (import.meta.main) for (const result of await run()) console.log(JSON.stringify(result));
