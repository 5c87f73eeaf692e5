/** What a server tells of itself, and to whom. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { createEdge } from "../../../src/api/edge/index.ts";
import { percentile } from "../../../src/api/edge/metrics/boot.ts";
import { countedStore } from "../../../src/api/edge/metrics/counted.ts";
import { Meters } from "../../../src/api/edge/metrics/meters.ts";
import { systemClock } from "../../../src/base/clock.ts";
import { createLog } from "../../../src/base/log.ts";
import { WarrenError } from "../../../src/errors.ts";
import { Figures } from "../../../src/server/billing/figures.ts";
import { FakeClock } from "../../harness/clock.ts";
import { MemoryStore } from "../../harness/stores/memory-store.ts";
import { until } from "../../harness/until.ts";
import { Api } from "../subject.ts";
import { onLoopback, program } from "./programs.ts";

test("/metrics counts requests, creates, states, streams and round trips", async () => {
  await using api = await Api.start({ edge: createEdge, around: (host) => onLoopback(host) });
  const { id } = (await api.call("POST", "/v1/sandboxes", {})).body as unknown as { id: string };
  await api.call("GET", "/v1/sandboxes/sb_none");
  const text = async () => (await api.raw("GET", "/metrics", { key: null })).text();
  const value = async (line: string) =>
    (await text())
      .split("\n")
      .find((one) => one.startsWith(`${line} `))
      ?.split(" ")[1];
  expect(await value('warren_requests_total{row="create",status="201"}')).toBe("1");
  expect(await value('warren_requests_total{row="get",status="404"}')).toBe("1");
  expect(await value('warren_request_seconds_count{row="create"}')).toBe("1");
  expect(await value('warren_create_seconds_count{path="none"}')).toBe("1");
  expect(await value('warren_sandboxes{state="running"}')).toBe("1");
  expect(await text()).toContain("process_cpu_seconds_total");
  expect(await value('warren_store_seconds_count{method="admit",outcome="ok"}')).toBe("1");
  await api.call("GET", `/v1/sandboxes/${id}/ports`);
  expect(await value('warren_store_seconds_count{method="portLabels",outcome="ok"}')).toBe("1");
  using silent = await program(() => undefined);
  const abort = new AbortController();
  const waiting = api.raw("GET", `/v1/sandboxes/${id}/proxy/${silent.port}/`, { signal: abort.signal });
  await until("it is asked", () => silent.heard() !== "");
  expect(await value('warren_streams_open{kind="proxy"}')).toBe("1");
  abort.abort();
  await expect(waiting).rejects.toThrow();
  await until("it is over", async () => (await value('warren_streams_open{kind="proxy"}')) === "0");
  await api.raw("DELETE", `/v1/sandboxes/${id}`);
  await until("it is gone", async () => (await value('warren_sandboxes{state="running"}')) === undefined);
});

test("/metrics says how the books are kept, now and not as it was before", async () => {
  const clock = new FakeClock();
  const billing = new Figures(clock);
  const meters = new Meters({ states: () => new Map(), tapeBytes: () => 0, billing }, createLog("error"));
  const lines = async () =>
    (await meters.text())?.body.split("\n").filter((line) => /^warren_(ledger|settle|outbox|sink|credit)/.test(line));
  await clock.advance(2500);
  billing.settled(1500);
  await clock.advance(500);
  billing.waits(new Map([["to-stripe", 7]]));
  billing.sent("stripe", "taken", 3);
  billing.sent("stripe", "given_up", 1);
  billing.hibernated(true);
  const wanted = (waiting: string) => [
    ...["warren_ledger_lag_seconds 0.5", "warren_settle_seconds 1.5", waiting],
    'warren_sink_events_total{kind="stripe",outcome="taken"} 3',
    'warren_sink_events_total{kind="stripe",outcome="given_up"} 1',
    'warren_credit_hibernations_total{outcome="done"} 1',
    'warren_credit_hibernations_total{outcome="failed"} 0',
  ];
  expect(await lines()).toEqual(wanted('warren_outbox_waiting{sink="to-stripe"} 7'));
  billing.waits(new Map([["to-lago", 2]]));
  expect(await lines()).toEqual(wanted('warren_outbox_waiting{sink="to-lago"} 2'));
});

test("/metrics is for this machine and for admins, and for everyone only when that was said", async () => {
  await using api = await Api.start({ edge: createEdge });
  const status = async (headers: Record<string, string>, key: string | null = null) =>
    (await api.raw("GET", "/metrics", { key, headers })).status;
  expect(await status({})).toBe(200);
  for (const headers of [
    { "x-forwarded-for": "1.2.3.4" },
    { forwarded: "for=1.2.3.4" },
    { via: "1.1 x" },
    { host: "evil.example" },
  ] as Record<string, string>[]) {
    expect(await status(headers)).toBe(401);
    expect(await status(headers, await api.key("acme", ["sandbox:read"]))).toBe(403);
    expect(await status(headers, api.admin)).toBe(200);
  }
  await using open = await Api.start({ edge: createEdge, settings: { openMetrics: true } });
  expect((await open.raw("GET", "/metrics", { key: null, headers: { host: "other.example" } })).status).toBe(200);
});

test("stats/boot tells exact percentiles of the last creates, by path", async () => {
  await using api = await Api.start({ edge: createEdge });
  expect((await api.call("GET", "/v1/stats/boot")).body).toEqual([] as never);
  const edge = createEdge(api.parts);
  let n = 0;
  const create = async () => ({ createPath: n % 2 === 0 ? "ready" : "none", createMs: n++ });
  const watched = edge.watched({ ...api.engine.as("admin"), create: create as never }, "admin");
  for (let i = 0; i < 1200; i++) await watched.create({});
  const rows = await edge.calls.bootStats({} as never, {});
  // The last thousand: 200 to 1199.
  expect(rows).toEqual([
    { path: "none", count: 500, p50Ms: 699, p90Ms: 1099, p99Ms: 1189, maxMs: 1199 },
    { path: "ready", count: 500, p50Ms: 698, p90Ms: 1098, p99Ms: 1188, maxMs: 1198 },
  ]);
  await edge.close();
});

test("percentile is a sample that its share of all is not above", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer(), { minLength: 1, maxLength: 200 }),
      fc.constantFrom(0.5, 0.9, 0.99, 1),
      (samples, share) => {
        const sorted = samples.toSorted((a, b) => a - b);
        const value = percentile(sorted, share);
        expect(sorted).toContain(value);
        expect(sorted.filter((one) => one <= value).length).toBeGreaterThanOrEqual(Math.ceil(share * sorted.length));
        expect(sorted.filter((one) => one < value).length).toBeLessThan(share * sorted.length);
      },
    ),
  );
});

test("countedStore is the same store, and counts what fails too", async () => {
  const store = new MemoryStore();
  const counts: string[] = [];
  const counted = countedStore(store, systemClock, (method, isOk) => counts.push(`${method} ${isOk}`));
  expect(counted.kind).toBe("pglite");
  expect(await counted.secret("a", () => "1")).toBe("1");
  expect(await store.secret("a", () => "2")).toBe("1");
  counted.onKeysChanged(() => undefined)();
  store.away = new WarrenError("store_unavailable", "away");
  await expect(counted.ping()).rejects.toThrow("away");
  expect(counts).toEqual(["secret true", "ping false"]);
});
