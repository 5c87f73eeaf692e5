/** Spans of requests, as a collector gets them. */
import { describe, expect, test } from "bun:test";
import { createLog } from "../../src/base/log.ts";
import { Traces } from "../../src/server/traces.ts";
import { FakeClock, settle } from "../harness/clock.ts";

interface Sent {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly unknown[] };
    readonly scopeSpans: readonly { readonly spans: readonly Record<string, unknown>[] }[];
  }[];
}

function bench() {
  const clock = new FakeClock();
  const sent: Sent[] = [];
  const warned: string[] = [];
  const collector = { status: 200, urls: [] as string[] };
  const traces = new Traces({
    ...{ endpoint: "http://otel.test:4318", node: "here", version: "1", clock },
    log: createLog("warn", (line) => warned.push(line)),
    post: async (url, body) => {
      collector.urls.push(url);
      if (collector.status === 200) sent.push(JSON.parse(body));
      return { ok: collector.status === 200, status: collector.status };
    },
  });
  const spans = () => sent.flatMap(({ resourceSpans }) => resourceSpans[0]?.scopeSpans[0]?.spans ?? []);
  const ask = (method: string, path: string, status: number, headers: Record<string, string> = {}) =>
    traces.during(new Request(`http://t.test${path}`, { method, headers }), async () => {
      await clock.advance(20);
      return new Response(null, { status, headers: { "x-request-id": "req_1" } });
    });
  return { clock, traces, collector, spans, warned, ask };
}

describe("Traces", () => {
  test("Traces names a span by its operation, goes on with a client's trace, and tells nothing of what was asked", async () => {
    const { clock, collector, spans, ask } = bench();
    const [trace, parent] = ["a".repeat(32), "b".repeat(16)];
    await ask("GET", "/v1/sandboxes/sb_secret?access_token=wrn_x", 200, { traceparent: `00-${trace}-${parent}-01` });
    await ask("POST", "/v1/sandboxes", 503, { traceparent: `00-${"0".repeat(32)}-${parent}-01` });
    await ask("GET", "/v1/sandboxes/sb_1/proxy/80/private/path", 200);
    await clock.advance(5000);
    expect(collector.urls).toEqual(["http://otel.test:4318/v1/traces"]);
    expect(spans().map(({ name }) => name)).toEqual(["GET /v1/sandboxes/:id", "POST /v1/sandboxes", "GET"]);
    expect(spans()[0]).toMatchObject({ traceId: trace, parentSpanId: parent, kind: 2, status: {} });
    expect(spans()[1]).toMatchObject({ parentSpanId: "", status: { code: 2 } });
    expect(spans()[1]?.["traceId"]).toMatch(/^(?!0+$)[0-9a-f]{32}$/);
    const { startTimeUnixNano: start, endTimeUnixNano: end } = spans()[0] ?? {};
    expect(Number(BigInt(String(end)) - BigInt(String(start)))).toBe(20_000_000);
    expect(JSON.stringify(spans())).not.toMatch(/sb_secret|wrn_x|private/);
  });

  test("Traces loses spans, and no request, while the collector is away, and says so once", async () => {
    const { clock, collector, spans, warned, ask } = bench();
    collector.status = 503;
    for (let i = 0; i < 3; i++) {
      expect((await ask("GET", "/v1/me", 200)).status).toBe(200);
      await clock.advance(5000);
    }
    expect([collector.urls.length, warned.length, spans().length]).toEqual([3, 1, 0]);
    collector.status = 200;
    await ask("GET", "/v1/me", 200);
    await clock.advance(5000);
    expect([spans().length, warned.at(-1)]).toEqual([1, expect.stringContaining('"lost":3')]);
  });

  test("Traces sends a full batch at once, and the rest at the end", async () => {
    const { traces, spans } = bench();
    const request = new Request("http://t.test/v1/me");
    for (let i = 0; i < 600; i++) await traces.during(request, () => new Response());
    await settle();
    expect(spans().length).toBe(512);
    await traces.close();
    expect(spans().length).toBe(600);
  });
});
