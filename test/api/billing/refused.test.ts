/** What of billing's input is wrong is a 400 that names the field as it was written, what came and what is allowed. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createEdge } from "../../../src/api/edge/index.ts";
import { Api } from "../subject.ts";

type Refused = readonly [method: string, path: string, body: object | null, field: string, says: string];

const usage = (query: string, field: string, says: string): Refused => [
  ...(["GET", `/v1/usage?${query}`, null, field, says] as const),
];
const list = (body: object, field: string, says: string): Refused => [
  ...(["PUT", "/v1/admin/pricing/lists/mine", body, field, says] as const),
];
const plan = (body: object, field: string, says: string): Refused => [
  ...(["PUT", "/v1/admin/pricing/plans/mine", { list: "default", ...body }, field, says] as const),
];
const sink = (body: object, field: string, says: string): Refused => [
  ...(["POST", "/v1/admin/billing/sinks", { id: "mine", url: "https://127.0.0.1", ...body }, field, says] as const),
];
const account = (body: object, field: string, says: string): Refused => [
  ...(["POST", "/v1/admin/accounts", { name: "new", ...body }, field, says] as const),
];

const DAYS = "allowed is a day such as 2026-11-21";
const GROUPS = "allowed are up to 3 of day, sandbox, template and metadata.KEY";

const REFUSED: readonly Refused[] = [
  usage("from=2029-12-02&to=2029-12-01", "to", "is after to, 2029-12-01T00:00:00.000Z"),
  usage("from=2999-01-01", "from", "no day of the years 1970 to 2199"),
  usage("from=2031-01-01", "from", "is after now"),
  usage("from=0000-01-01", "from", "no day of the years"),
  usage("to=9999-12-31", "to", "no day of the years"),
  usage("from=2026-02-30", "from", DAYS),
  usage("from=yesterday!!", "from", 'got "yesterday!!"'),
  usage("from=-", "from", 'got "-"'),
  usage("from=2026-11-21T10:00:00", "from", "its offset is missing"),
  usage("from=2026-11-21T10:00:00+05:30", "from", "a + in a URL is written %2B"),
  usage("from=2026-11-21T25:00:00Z", "from", "no time of a day"),
  usage("from=2026-01-01&from=2026-01-02", "from", "allowed is a string"),
  usage("from=2020-01-01&to=2029-01-01", "to", "at most 1098 are allowed: ask in parts"),
  usage(`from=${"2".repeat(41)}`, "from", "at most 40 characters"),
  usage("group_by=week", "group_by", GROUPS),
  usage("group_by=", "group_by", "at least 1 character"),
  usage("group_by=day,day", "group_by", 'got "day" twice'),
  usage("group_by=day,sandbox,template,metadata.a", "group_by", "got 4"),
  usage("group_by=metadata.", "group_by", GROUPS),
  usage("groupBy=day", "groupBy", "not a known field"),
  usage("format=xml", "format", 'one of "json", "csv"'),
  ["GET", "/v1/usage/entries?format=json", null, "format", 'one of "jsonl", "csv"'],
  ["GET", "/v1/usage/entries?from=2029-12-02&to=2029-12-01", null, "to", "is after to"],
  ["GET", "/v1/invoices/NO!", null, "id", "matching"],
  ["GET", "/v1/admin/billing/reconcile?from=2029-12-02&to=2029-12-01", null, "to", "is after to"],
  ["GET", "/v1/admin/billing/reconcile?to=soon-enough", null, "to", DAYS],
  list({}, "prices", "is required"),
  list({ prices: {} }, "prices", "with at least 1 entry"),
  list({ prices: { vcpu_ms: "-1" } }, "prices.vcpu_ms", "that is not negative"),
  list({ prices: { vcpu_ms: "1e-5" } }, "prices.vcpu_ms", "an exact amount"),
  list({ prices: { vcpu_ms: 0.00001 } }, "prices.vcpu_ms", "allowed is a string"),
  list({ prices: { vcpu_ms: "NaN" } }, "prices.vcpu_ms", 'got "NaN"'),
  list({ prices: { vcpu_ms: `0.${"1".repeat(19)}` } }, "prices.vcpu_ms", "18 after the point"),
  list({ prices: { vcpu_hours: "1" } }, "prices", "one of the meters vcpu_ms, memory_mib_ms"),
  list({ prices: { constructor: "1" } }, "prices", "one of the meters"),
  list({ prices: { vcpu_ms: "1" }, currency: "usd" }, "currency", "matching"),
  list({ prices: { vcpu_ms: "1" }, from_day: "2026-02-30" }, "from_day", "a day of the calendar"),
  list({ prices: { vcpu_ms: "1" }, from_day: "2026-2-3" }, "from_day", "matching"),
  list({ prices: { vcpu_ms: "1" }, fromDay: "2026-02-03" }, "fromDay", "not a known field"),
  plan({ minimum: "-5" }, "minimum", "that is not negative"),
  plan({ minimum: "10.01", cap: "10" }, "cap", "at least the minimum, 10.01"),
  plan({ cap: "many" }, "cap", 'got "many"'),
  plan({ included: { vcpu_ms: "0" } }, "included.vcpu_ms", "a whole number above 0"),
  plan({ included: { vcpu_ms: "1.5" } }, "included.vcpu_ms", "a whole number above 0"),
  plan({ included: { hours: "5" } }, "included", "one of the meters"),
  ["PUT", "/v1/admin/accounts/admin/plan", { plan: "p", from_day: "2026-11-31" }, "from_day", "a day of the calendar"],
  ["PUT", "/v1/admin/accounts/admin/plan", {}, "plan", "is required"],
  ["POST", "/v1/admin/billing/corrections", { entry: "-1", reason: "x" }, "entry", "matching"],
  ["POST", "/v1/admin/billing/corrections", { entry: "1", reason: "" }, "reason", "at least 1 character"],
  ["POST", "/v1/admin/billing/corrections", { entry: "1", reason: "x", quantity: "1.5" }, "quantity", "matching"],
  sink({ kind: "kafka" }, "kind", 'one of "webhook", "openmeter", "lago", "stripe"'),
  sink({ kind: "webhook" }, "token", "whsec_"),
  sink({ kind: "stripe", token: "sk_1" }, "customers", "cus_"),
  sink({ kind: "stripe", token: "sk_1", customers: { acme: "acme" } }, "customers", "cus_"),
  sink({ kind: "lago", customers: { acme: "s" } }, "token", "an API key"),
  sink({ kind: "openmeter" }, "url", "which is not on the public internet"),
  sink({ kind: "openmeter", url: "https://x:pw@meter.example" }, "url", "a name and password in it"),
  sink({ kind: "openmeter", url: "ftp://meter.example" }, "url", "matching"),
  account({ time_zone: "Mars/Olympus" }, "time_zone", "a name of IANA's, such as Europe/Berlin"),
  account({ time_zone: "+05:30" }, "time_zone", "a name of IANA's"),
  account({ on_empty: "close" }, "on_empty", 'one of "nothing", "hibernate"'),
  account({ bill_to: { name: "" } }, "bill_to", "allowed is"),
  ["PATCH", "/v1/admin/accounts/admin", { time_zone: "Nowhere" }, "time_zone", 'got "Nowhere"'],
];

describe("Billing refuses", () => {
  let api: Api;
  beforeAll(async () => {
    api = await Api.start({ edge: createEdge });
  });
  afterAll(() => api[Symbol.asyncDispose]());

  test.each(REFUSED.map((one) => [...one] as Refused))("%s %s %j by naming %s", async (...refused) => {
    const [method, path, body, field, says] = refused;
    const { status, body: told } = await api.call(method, path, body ?? undefined);
    expect([status, told["code"], told["details"]?.["field"]] as unknown[]).toEqual([400, "invalid_request", field]);
    expect(String(told["error"])).toContain(says);
    expect(String(told["error"])).toStartWith(`${field}: `);
  });

  test("nothing of it reached the store", () => {
    const { calls } = api.store;
    for (const method of ["usage", "usageEntries", "setPrices", "setPlan", "subscribeTo", "correct", "createSink"])
      expect([method, calls.get(method)]).toEqual([method, undefined]);
  });
});
