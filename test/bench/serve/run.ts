/**
 * `warren serve` under load: requests a second, creates through HTTP beside the floor, what HTTP adds to a command, and what
 * an idle follower costs. The server is a process of its own; so is what loads it.
 *
 * Where create → first result with a ready clone goes, milliseconds, medians of 20 in turns with embedded use (in brackets) on a
 * quiet machine of two cores, PGlite: request to handler 0.9, key, account and input 1.0; place on the host 1.1 (1.3); the
 * network's rules and the register's record 1.5 (2.3); resume 2.2 (2.3); identity 3.6 (2.1); the record again 0.7 (0.4); answer
 * read by the client 1.6; the second request until it is with the agent 1.6 (0.5); in the guest until started 3.2, printed 16.4,
 * ended 19.3 (2.8, 16.6, 17.3); answer 1.0 (0.2). In all 54 (46). The booking is answered before the identity is
 * confirmed. Of what is left beyond embedded use two thirds are the two requests; of all of it two thirds are the guest's first
 * program. Before, the sandbox was made after 42 (the keeper opened its network then, 27; now when the clone is made) or 58
 * (the pool was refilled at once), and the first program took up to three times as long beside the refill.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { connect } from "../../../src/client.ts";
import { openWarren, type Warren } from "../../../src/compose.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { type ServerProcess, startServerProcess } from "../../harness/server.ts";
import { openFloor } from "../floor.ts";
import { createToExec, timed, verified } from "../measures.ts";
import { machineFacts, RESULTS, record } from "../record.ts";
import { pairRatio, round, type Summary, summary } from "../stats.ts";

const HELP = `Measure a server under load. Root only.

Usage: bun test/bench/serve/run.ts [options]

  --template NAME   what creates restore (default code-interpreter)
  --rounds N        creates of each kind, 3 or more (default 20)
  --seconds N       length of each load (default 10)
  --followers N     idle followers of events (default 1000); over 200 it needs BUN_CONFIG_MAX_HTTP_REQUESTS=4000, as one
                    process of Bun's has 256 requests under way at most
  --record          append the line to test/bench/results.ndjson
  --help            this text`;

const { values: options } = parseArgs({
  options: {
    template: { type: "string", default: "code-interpreter" },
    rounds: { type: "string", default: "20" },
    seconds: { type: "string", default: "10" },
    followers: { type: "string", default: "1000" },
    record: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
const CONNECTIONS = 64;
const { template } = options;
const rounds = Number(options.rounds);

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

interface Load {
  readonly perSecond: number;
  readonly failed: number;
  readonly ms: Summary;
}

async function load(server: ServerProcess, what: string, id: string): Promise<Load> {
  const args = [join(import.meta.dir, "load.ts"), server.url, server.key, what, id];
  const child = Bun.spawn([process.execPath, ...args, String(CONNECTIONS), options.seconds], {
    stdout: "pipe",
    stderr: "inherit",
  });
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`the load ${what} failed`);
  const line = JSON.parse(text) as Load;
  if (line.failed > 0) throw new Error(`${line.failed} requests of the load ${what} failed`);
  return line;
}

/** Create → first verified result through HTTP. `path` is checked: a run that took another road is no sample. */
async function createOver(server: ServerProcess, path: string): Promise<number> {
  const { host } = connect({ url: server.url, key: server.key });
  let box: Sandbox | null = null;
  const ms = await timed(async () => {
    box = await Sandbox.create({ template, ttlSeconds: 600 }, host);
    await verified(box);
  });
  const made = box as unknown as Sandbox;
  const info = await made.info();
  await made.close();
  if (info.createPath !== path) throw new Error(`took the path ${info.createPath}, not ${path}`);
  return ms;
}

/** One small command, again and again: through HTTP, and by the raw agent of a sandbox that this process made. */
async function roundTrips(server: ServerProcess, warren: Warren): Promise<{ http: number[]; raw: number[] }> {
  const { host } = connect({ url: server.url, key: server.key });
  await using far = await Sandbox.create({ ttlSeconds: 600 }, host);
  await using near = await Sandbox.create({}, warren.sandboxes);
  const body = JSON.stringify({ cmd: "/bin/true", args: [] });
  const headers = { authorization: `Bearer ${server.key}`, "content-type": "application/json" };
  const over = async (): Promise<void> => {
    const answer = await fetch(`${server.url}/v1/sandboxes/${far.id}/exec`, { method: "POST", headers, body });
    if (!answer.ok) throw new Error(await answer.text());
    await answer.arrayBuffer();
  };
  const s = { http: [] as number[], raw: [] as number[] };
  for (let i = 0; i < 60; i++) {
    const http = await timed(over);
    const raw = await timed(() => near.exec(["/bin/true"]));
    if (i < 10) continue;
    s.http.push(http);
    s.raw.push(raw);
  }
  return s;
}

function rssKib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

/** KiB of the server's memory for each follower that only waits, over all of them. */
async function followers(server: ServerProcess, count: number): Promise<number> {
  const { host } = connect({ url: server.url, key: server.key });
  await using box = await Sandbox.create({ ttlSeconds: 600 }, host);
  const stop = new AbortController();
  const headers = { authorization: `Bearer ${server.key}`, accept: "text/event-stream" };
  const follow = async (): Promise<void> => {
    const { signal } = stop;
    const answer = await fetch(`${server.url}/v1/sandboxes/${box.id}/events?follow=1`, { headers, signal });
    if (!answer.ok || answer.body === null) throw new Error(`a follower got ${answer.status}`);
    await answer.body.getReader().read(); // what has happened so far: from here on it waits
  };
  for (let i = 0; i < 50; i++) await follow(); // what the first ones need is there for all
  await Bun.sleep(2_000);
  const before = rssKib(server.pid);
  for (let i = 0; i < count; i += 50) await Promise.all(Array.from({ length: 50 }, follow));
  await Bun.sleep(5_000);
  const after = rssKib(server.pid);
  stop.abort();
  return (after - before) / count;
}

interface Creates {
  readonly ratios: { readonly none: number; readonly ready: number; readonly embeddedReady: number };
  readonly figures: Readonly<Record<string, Summary>>;
}

/** With nothing prepared, then with a ready clone, through HTTP and embedded; beside the floor, all in turns. */
async function creates(home: string, warren: Warren): Promise<Creates> {
  await using plain = await startServerProcess({ home, args: ["--prepared", "0"] });
  await using floor = await openFloor(warren, template);
  const s = { floor: [] as number[], none: [] as number[] };
  for (let i = 0; i <= rounds; i++) {
    const [floorMs, none] = [(await floor.run("restore")).ms, await createOver(plain, "none")];
    if (i === 0) continue;
    s.floor.push(floorMs);
    s.none.push(none);
  }
  await plain.end("SIGTERM");
  await using server = await startServerProcess({ home, args: ["--prepared", "0", "--ready", "1"] });
  await createOver(server, "none").catch(() => undefined); // says which template is wanted ready
  await using embedded = await openWarren({ prepared: 0, ready: 1 });
  const r = { floor: [] as number[], ready: [] as number[], embedded: [] as number[] };
  for (let i = 0; i <= rounds; i++) {
    await embedded.engine.prepare({ template });
    await Bun.sleep(1_500); // the clone that the server's last create used is made anew
    const floorMs = (await floor.run("restore")).ms;
    const readyMs = await createOver(server, "ready");
    const embeddedMs = await createToExec(embedded, template, "ready");
    if (i === 0) continue;
    r.floor.push(floorMs);
    r.ready.push(readyMs);
    r.embedded.push(embeddedMs);
  }
  return {
    ratios: {
      none: pairRatio(s.none, s.floor),
      ready: pairRatio(r.ready, r.floor),
      embeddedReady: pairRatio(r.embedded, r.floor),
    },
    figures: {
      floorMs: summary(s.floor),
      noneMs: summary(s.none),
      floorReadyMs: summary(r.floor),
      readyMs: summary(r.ready),
      embeddedReadyMs: summary(r.embedded),
    },
  };
}

async function measure(): Promise<Record<string, unknown>> {
  await using warren = await openWarren({ prepared: 0 });
  const { home } = warren.config;
  say(`opening ${template} (baked first when it is missing)`);
  await warren.engine.prepare({ template });
  say("creates");
  const made = await creates(home, warren);
  await using server = await startServerProcess({ home, args: ["--prepared", "0"] });
  const { host } = connect({ url: server.url, key: server.key });
  const box = await Sandbox.create({ ttlSeconds: 3600 }, host);
  say("requests");
  const get = await load(server, "get", box.id);
  const exec = await load(server, "exec", box.id);
  say("round trips");
  const trips = await roundTrips(server, warren);
  say("followers");
  const followerKib = await followers(server, Number(options.followers));
  await box.close();
  return {
    bench: "serve",
    template,
    rounds,
    connections: CONNECTIONS,
    followers: Number(options.followers),
    ...(await machineFacts()),
    ...made.figures,
    getPerSecond: round(get.perSecond),
    getMs: get.ms,
    execPerSecond: round(exec.perSecond),
    execMs: exec.ms,
    httpExecMs: summary(trips.http),
    rawExecMs: summary(trips.raw),
    followerKib: round(followerKib),
    ratios: { ...made.ratios, exec: pairRatio(trips.http, trips.raw) },
  };
}

if (options.help) console.log(HELP);
else {
  const line = await measure();
  console.log(JSON.stringify(line, null, 2));
  if (options.record) {
    record(line);
    say(`recorded in ${RESULTS}`);
  }
}
