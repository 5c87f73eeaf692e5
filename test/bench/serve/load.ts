/** A process that loads a server: `load.ts URL KEY WHAT ID CONNECTIONS SECONDS` prints one line of JSON. */
import { summary } from "../stats.ts";

const [url = "", key = "", what = "", id = "", connections = "64", seconds = "5"] = process.argv.slice(2);
const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };

const REQUESTS: Readonly<Record<string, () => Request>> = {
  get: () => new Request(`${url}/v1/sandboxes/${id}`, { headers }),
  exec: () =>
    new Request(`${url}/v1/sandboxes/${id}/exec`, { method: "POST", headers, body: '{"cmd":"/bin/true","args":[]}' }),
};

const request = REQUESTS[what];
if (request === undefined) throw new Error(`no such load: ${what}`);

const samples: number[] = [];
let failed = 0;
const endMs = performance.now() + Number(seconds) * 1000;
const startMs = performance.now();

async function one(): Promise<void> {
  while (performance.now() < endMs) {
    const begin = performance.now();
    const answer = await fetch((request as () => Request)());
    await answer.arrayBuffer();
    if (answer.ok) samples.push(performance.now() - begin);
    else failed += 1;
  }
}

await Promise.all(Array.from({ length: Number(connections) }, one));
const tookSeconds = (performance.now() - startMs) / 1000;
console.log(JSON.stringify({ perSecond: samples.length / tookSeconds, failed, ms: summary(samples) }));
