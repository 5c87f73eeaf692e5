/** What receivers get, to the letter; when they get it again; and what of their answers is read. */
import { describe, expect, test } from "bun:test";
import type { Outgoing } from "../../src/api/billing.ts";
import { reply } from "../../src/api/edge/webhooks/reply.ts";
import { checkSink, type WantedSink } from "../../src/contract/sinks.ts";
import { WarrenError } from "../../src/errors.ts";
import { METER_NAMES } from "../../src/meter/meters.ts";
import { cloudEventOf, codeOf, idWithin } from "../../src/sinks/event.ts";
import { lago } from "../../src/sinks/lago.ts";
import { openmeter } from "../../src/sinks/openmeter.ts";
import { pauseMs, retryAfterMs, retryMs } from "../../src/sinks/pace.ts";
import { judged } from "../../src/sinks/receiver.ts";
import { urlOf } from "../../src/sinks/send.ts";
import { stripe } from "../../src/sinks/stripe.ts";
import { program } from "../api/edge/programs.ts";
import { usageEvent } from "./outbox.ts";

const AT_MS = Date.UTC(2030, 0, 31, 23, 59, 59, 7);
const EVENT = usageEvent({ fromMs: AT_MS, toMs: AT_MS + 993, quantity: "9223372036854775807" });

function out(change: Partial<Outgoing["sink"]> = {}, more: Partial<Outgoing> = {}): Outgoing {
  const sink = { id: "s", kind: "stripe", account: null, url: "", token: "sk_1", customers: { a: "cus_a" }, ...change };
  return { id: "1", sink: sink as Outgoing["sink"], event: EVENT, tries: 2, sentAtMs: null, ...more };
}

describe("An event on the wire", () => {
  test("is a CloudEvent 1.0 with its id, its beginning as time, and quantities as text", () => {
    expect(cloudEventOf(EVENT, "customer-1")).toEqual({
      ...{ specversion: "1.0", type: "warren.vcpu_ms", id: `sb_1:vcpu_ms:${AT_MS}`, source: "warren" },
      ...{ time: "2030-01-31T23:59:59.007Z", subject: "customer-1", datacontenttype: "application/json" },
      data: {
        ...{ account: "a", subject: "sb_1", meter: "vcpu_ms", quantity: "9223372036854775807", template: "base" },
        ...{ from: "2030-01-31T23:59:59.007Z", to: "2030-02-01T00:00:00.000Z" },
      },
    });
    expect(Object.keys(cloudEventOf({ ...EVENT, template: null }, "c").data)).not.toContain("template");
  });

  test("is one CloudEvent or a batch of them to OpenMeter, for the customer that it knows", () => {
    const one = openmeter.write([out({ kind: "openmeter", token: null, customers: {} })], AT_MS);
    expect(one).toMatchObject({ path: "/api/v1/events", contentType: "application/cloudevents+json", headers: {} });
    expect(JSON.parse(one.body)).toEqual(JSON.parse(JSON.stringify(cloudEventOf(EVENT, "a"))));
    const two = openmeter.write([out({ customers: { a: "x" } }), out()], AT_MS);
    expect(two.contentType).toBe("application/cloudevents-batch+json");
    expect(two.headers).toEqual({ Authorization: "Bearer sk_1" });
    expect((JSON.parse(two.body) as { subject: string }[]).map(({ subject }) => subject)).toEqual(["x", "cus_a"]);
  });

  test("is an event of a subscription to Lago, in decimal seconds", () => {
    const one = lago.write([out({ customers: { a: "sub_1" } })], AT_MS);
    expect(one).toMatchObject({ path: "/api/v1/events", contentType: "application/json" });
    expect(JSON.parse(one.body)).toMatchObject({
      event: {
        ...{ transaction_id: EVENT.id, external_subscription_id: "sub_1", code: "warren_vcpu_ms" },
        ...{ timestamp: `${Math.floor(AT_MS / 1000)}.007`, properties: { quantity: "9223372036854775807" } },
      },
    });
    expect(lago.write([out(), out()], AT_MS).path).toBe("/api/v1/events/batch");
    expect(lago.refuses(out({ customers: { b: "sub_b" } }), AT_MS)).toContain("no subscription for the account a");
    expect(lago.refuses(out({ customers: {} }, { event: { ...EVENT, account: "constructor" } }), AT_MS)).not.toBeNull();
  });

  test("is a form to Stripe, with another key for each try and the same one when that is repeated", () => {
    const write = (tries: number) => stripe.write([out({}, { tries })], AT_MS);
    expect([...new URLSearchParams(write(2).body)]).toEqual([
      ["event_name", "warren_vcpu_ms"],
      ["identifier", EVENT.id],
      ["timestamp", String(Math.floor(AT_MS / 1000))],
      ["payload[stripe_customer_id]", "cus_a"],
      ["payload[value]", "9223372036854775807"],
    ]);
    expect(write(2)).toEqual(write(2));
    expect(write(2).headers["Idempotency-Key"]).not.toBe(write(3).headers["Idempotency-Key"] ?? "");
    expect(stripe.refuses(out({}, { event: { ...EVENT, quantity: "1.5" } }), AT_MS)).toContain("whole numbers");
  });

  test("has a name for every meter that each receiver takes, and an id that none refuses", () => {
    for (const meter of METER_NAMES) expect(codeOf(meter)).toMatch(/^[a-z0-9_]{1,100}$/);
    expect(idWithin("sb_1:vcpu_ms:5", 100)).toBe("sb_1:vcpu_ms:5");
    for (const id of ["x".repeat(101), "a b", "é", "a\r\nb"]) expect(idWithin(id, 100)).toMatch(/^[0-9a-f]{64}$/);
  });

  test("goes to the receiver's path behind the sink's URL, once", () => {
    const path = "/v1/billing/meter_events";
    for (const url of ["https://api.example.com", "https://api.example.com/", `https://api.example.com${path}`])
      expect(urlOf(url, path).href).toBe(`https://api.example.com${path}`);
    expect(urlOf("https://example.com/lago/", "/api/v1/events").href).toBe("https://example.com/lago/api/v1/events");
    expect(urlOf("https://example.com/hook?x=1", "").href).toBe("https://example.com/hook?x=1");
  });
});

describe("An answer", () => {
  const kind = (status: number, text = "") => judged({ status, text, retryAfterMs: null }).kind;

  test("of success is taken, of content is final, of anything that may pass or be mended is tried again", () => {
    for (const status of [200, 201, 202, 204]) expect(kind(status)).toBe("taken");
    for (const status of [301, 302, 401, 402, 403, 404, 405, 407, 408, 409, 423, 425, 429, 500, 502, 503, 504, 599])
      expect(kind(status)).toBe("again");
    for (const status of [400, 406, 410, 411, 413, 414, 415, 422, 431, 451]) expect(kind(status)).toBe("never");
  });

  test("of Lago is read by index: what it has is taken, what is wrong is given up, the others go again", () => {
    const answer = (error_details: unknown) => ({
      ...{ status: 422, retryAfterMs: null, text: JSON.stringify({ status: 422, error_details }) },
    });
    const known = { transaction_id: ["value_already_exist"] };
    const three = [out(), out(), out()];
    expect(lago.read(answer({ 0: known, 2: { code: ["x"] } }), three)?.map((verdict) => verdict.kind)).toEqual([
      ...["taken", "anew", "never"],
    ] as never);
    expect(lago.read(answer(known), [out()])).toEqual([{ kind: "taken" }]);
    expect(lago.read(answer({ timestamp: ["invalid_format"] }), [out()])).toMatchObject([{ kind: "never" }]);
    for (const details of [{ events: ["too_many_events"] }, [], null, "x", {}, { 7: known }])
      expect(lago.read(answer(details), three)).toBeNull(); // each goes alone
    expect(lago.read({ status: 422, retryAfterMs: null, text: "<html>" }, three)).toBeNull();
  });

  test("of Stripe that it has the event is as good as taken", () => {
    const text = JSON.stringify({
      error: { message: "An event already exists with identifier x.", type: "invalid_request_error" },
    });
    expect(stripe.read({ status: 400, text, retryAfterMs: null }, [out()])).toEqual([{ kind: "taken" }]);
    expect(stripe.read({ status: 400, text: "{}", retryAfterMs: null }, [out()])).toMatchObject([{ kind: "never" }]);
    expect(stripe.read({ status: 500, text, retryAfterMs: null }, [out()])).toMatchObject([
      { kind: "again", isSure: false },
    ]);
  });

  const ask = async (answer: string) => {
    using it = await program((socket) => socket.end(answer));
    let sent = 0;
    return await reply({
      ...{ url: new URL(`http://hook.test:${it.port}/`), address: "127.0.0.1", headers: {}, body: "{}" },
      ...{ signal: new AbortController().signal, sent: () => (sent += 1) },
    });
  };

  test("is read as far as it is needed, whatever it is made of", async () => {
    const chunked = "HTTP/1.1 422 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    expect(await ask(chunked)).toMatchObject({ status: 422, text: "abcde" });
    expect(await ask("HTTP/1.1 503 X\r\nRetry-After: 7\r\n\r\nlater")).toMatchObject({
      ...{ status: 503, text: "later", headers: [["retry-after", "7"]] },
    });
    expect((await ask(`HTTP/1.1 400 X\r\n\r\n${"x".repeat(10_000_000)}`)).text.length).toBeLessThan(70_000);
    expect((await ask("HTTP/1.1 400 X\r\nContent-Length: 9\r\n\r\nabc")).text).toStartWith("abc");
    for (const answer of [
      "",
      "SSH-2.0\r\n\r\n",
      "HTTP/1.1 999 X\r\n\r\n",
      `HTTP/1.1 200 X\r\n${"a: b\r\n".repeat(20_000)}`,
    ])
      await expect(ask(answer)).rejects.toThrow();
  });
});

describe("A further try", () => {
  test("comes later each time, within an hour, no sooner than asked for, and for a month", () => {
    const waits = Array.from({ length: 12 }, (_, i) => retryMs(i + 1, 0, null));
    expect(waits.slice(0, 3)).toEqual([5_000, 10_000, 20_000]);
    expect(waits.at(-1)).toBe(3_600_000);
    expect(retryMs(1, 1, null)).toBe(6_000);
    expect(retryMs(1, 0, 50_000)).toBe(50_000);
    expect(retryMs(1, 0, 1e12)).toBe(86_400_000);
    expect(retryMs(719, 0, null)).toBe(3_600_000);
    expect(retryMs(720, 0, null)).toBeNull();
    expect([1, 2, 3, 30].map((failures) => pauseMs(failures, null))).toEqual([1_000, 2_000, 4_000, 300_000]);
  });

  test("reads Retry-After as seconds or a date", () => {
    expect(retryAfterMs("120", 0)).toBe(120_000);
    expect(retryAfterMs("Tue, 01 Jan 2030 00:00:10 GMT", Date.UTC(2030, 0, 1))).toBe(10_000);
    expect(retryAfterMs("Tue, 01 Jan 2030 00:00:10 GMT", Date.UTC(2031, 0, 1))).toBe(0);
    for (const text of [undefined, "", "soon", "-1", "1e3", "99999999999"]) expect(retryAfterMs(text, 0)).toBeNull();
  });
});

describe("checkSink", () => {
  const secret = `whsec_${"A".repeat(32)}`;
  const wanted = (change: Partial<WantedSink>): WantedSink => ({
    ...{ kind: "stripe", account: null, token: "sk_live_1", customers: { a: "cus_1" } },
    ...change,
  });

  test("takes what each kind of receiver needs", () => {
    for (const sink of [
      wanted({}),
      wanted({ token: "rk_live_1", account: "a" }),
      wanted({ kind: "lago", token: "key", customers: { a: "sub 1" } }),
      wanted({ kind: "openmeter", token: null, customers: {} }),
      wanted({ kind: "openmeter", account: "a", customers: { a: "x" } }),
      wanted({ kind: "webhook", token: secret, customers: {}, account: "a" }),
    ])
      expect(() => checkSink(sink)).not.toThrow();
  });

  test("refuses, by its field, what no event would get through with", () => {
    for (const [field, change] of [
      ["token", { token: null }],
      ["token", { token: "pk_live_1" }],
      ["token", { kind: "lago", token: null }],
      ["token", { kind: "openmeter", token: "a\r\nX: y" }],
      ["token", { kind: "webhook", token: null, customers: {} }],
      ["token", { kind: "webhook", token: "whsec_short", customers: {} }],
      ["customers", { customers: {} }],
      ["customers", { customers: { a: "sub_1" } }],
      ["customers", { kind: "lago", customers: {} }],
      ["customers", { kind: "lago", customers: { a: "" } }],
      ["customers", { kind: "webhook", token: secret }],
      ["customers", { account: "b" }],
      ["customers", { account: "constructor" }],
    ] as const) {
      let thrown: unknown = null;
      try {
        checkSink(wanted(change as Partial<WantedSink>));
      } catch (cause) {
        thrown = cause;
      }
      expect(thrown).toBeInstanceOf(WarrenError);
      expect(thrown).toMatchObject({ code: "invalid_request", details: { field } });
    }
  });
});
