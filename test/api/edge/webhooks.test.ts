/** Webhooks: where they may go, how they are signed, and that each arrives, whatever fails in between. */
import { describe, expect, test } from "bun:test";
import { BOUNDS } from "../../../src/api/edge/bounds.ts";
import { createEdge, type EdgeOptions } from "../../../src/api/edge/index.ts";
import { messageOf, WebhookQueue } from "../../../src/api/edge/webhooks/queue.ts";
import { secretOf, signed } from "../../../src/api/edge/webhooks/sign.ts";
import { nextTryMs, WebhookWorker } from "../../../src/api/edge/webhooks/worker.ts";
import { createLog } from "../../../src/base/log.ts";
import type { Move } from "../../../src/contract/move.ts";
import { WarrenError } from "../../../src/errors.ts";
import { FakeClock, settle } from "../../harness/clock.ts";
import { MemoryStore } from "../../harness/stores/memory-store.ts";
import { until } from "../../harness/until.ts";
import { Api, type ApiOptions } from "../subject.ts";
import { type Program, program } from "./programs.ts";

const log = createLog("silent");
const anywhere = async () => ["127.0.0.1"];

interface Heard {
  readonly head: string;
  readonly body: string;
}
/** A receiver that answers each delivery with the next status, the last one for ever. */
async function receiver(...statuses: number[]): Promise<Program & { readonly got: Heard[] }> {
  const got: Heard[] = [];
  const it = await program((socket, first) => {
    const [head = "", body = ""] = first.split("\r\n\r\n");
    const status = statuses[Math.min(got.length, statuses.length - 1)] ?? 200;
    got.push({ head, body });
    if (status !== 0) socket.end(`HTTP/1.1 ${status} X\r\nContent-Length: 0\r\n\r\n`);
  });
  return Object.assign(it, { got });
}

function move(sequence: number, to: Move["to"] = "running", account = "acme"): Move {
  return {
    ...{ sandbox: "sb_a", account, template: "base", cpu: 1, memoryMib: 512, sequence, from: null, to },
    ...{ event: "x", reason: null, monotonicMs: sequence, wallMs: 1000 + sequence },
  };
}

async function scene({ port = 1, events = ["*"] } = {}) {
  const clock = new FakeClock();
  const store = new MemoryStore();
  const secret = secretOf(new Uint8Array(32).fill(1));
  const info = {
    id: "wh_1",
    url: `http://hook.test:${port}/in?x=1`,
    events,
    createdAt: "",
    waiting: 0,
    lastAt: null,
    lastStatus: null,
  };
  await store.createWebhook("acme", info, secret);
  const outcomes: string[] = [];
  const parts = {
    store,
    clock,
    log,
    resolve: anywhere,
    allowPrivate: true,
    isOn: true,
    tried: (o: string) => outcomes.push(o),
  };
  return { clock, store, secret, outcomes, parts };
}

describe("WebhookWorker", () => {
  test("sends a body as it is, signed as Standard Webhooks has it", async () => {
    using it = await receiver(204);
    const { clock, store, secret, outcomes, parts } = await scene({ port: it.port });
    const { type, body } = messageOf(move(3));
    await store.enqueue("acme", type, body, clock.wallMs());
    const worker = new WebhookWorker(parts);
    worker.wake();
    await until("it is delivered", () => outcomes.length === 1);
    expect(outcomes).toEqual(["delivered"]);
    const { head, body: got } = it.got[0] as Heard;
    expect(got).toBe(body);
    expect(head).toStartWith("POST /in?x=1 HTTP/1.1\r\n");
    const header = (name: string) => new RegExp(`^${name}: (.*)$`, "im").exec(head)?.[1]?.trim() ?? "";
    expect([header("host"), header("content-type")]).toEqual([`hook.test:${it.port}`, "application/json"]);
    expect(header("webhook-id")).toBe("evt_sb_a_3");
    const key = Buffer.from(secret.slice("whsec_".length), "base64");
    const text = `${header("webhook-id")}.${header("webhook-timestamp")}.${got}`;
    const mine = new Bun.CryptoHasher("sha256", key).update(text).digest("base64");
    expect(header("webhook-signature")).toBe(`v1,${mine}`);
    expect(JSON.parse(got)).toMatchObject({
      id: "evt_sb_a_3",
      type: "sandbox.running",
      account: "acme",
      sandbox: { id: "sb_a", status: "running" },
    });
    await until("it is over", async () => (await store.webhooks("acme"))[0]?.waiting === 0);
    expect((await store.webhooks("acme"))[0]).toMatchObject({ lastStatus: 204 });
    await worker.close();
  });

  test("tries again later and later, the same body under the same id, also after a restart", async () => {
    using it = await receiver(500, 302, 200);
    const { clock, store, outcomes, parts } = await scene({ port: it.port });
    await store.enqueue("acme", "sandbox.running", messageOf(move(1)).body, clock.wallMs());
    const first = new WebhookWorker(parts);
    first.wake();
    await until("the first try has failed", () => outcomes.length === 1);
    await clock.advance(4_000);
    expect(it.got.length).toBe(1);
    await clock.advance(2_000);
    await until("the second try has failed", () => outcomes.length === 2);
    await first.close();
    const second = new WebhookWorker(parts);
    await clock.advance(29_000);
    await clock.advance(6_000);
    await until("the third try is taken", () => outcomes.length === 3);
    expect(outcomes).toEqual(["failed", "failed", "delivered"]);
    expect(new Set(it.got.map(({ body }) => body)).size).toBe(1);
    expect(new Set(it.got.map(({ head }) => /^webhook-id: .*$/im.exec(head)?.[0])).size).toBe(1);
    expect(it.got.length).toBe(3);
    await second.close();
  });

  test("gives up after a day of tries, and at once when the receiver is gone for good", async () => {
    const waits: number[] = [];
    for (let tries = 0, at: number | null = 0; at !== null; tries++) {
      at = nextTryMs(tries, 0);
      if (at !== null) waits.push(at);
    }
    expect(waits.length).toBe(BOUNDS.deliveryTries - 1);
    expect(waits).toEqual(waits.toSorted((a, b) => a - b));
    expect(waits.reduce((sum, ms) => sum + ms, 0) / 3_600_000).toBeWithin(20, 26);
    using it = await receiver(410);
    const { clock, store, outcomes, parts } = await scene({ port: it.port });
    await store.enqueue("acme", "sandbox.running", messageOf(move(1)).body, clock.wallMs());
    const worker = new WebhookWorker(parts);
    worker.wake();
    await until("it is given up", () => outcomes.length === 1);
    expect(outcomes).toEqual(["given_up"]);
    await worker.close();
  });

  test("waits for no receiver longer than its time, nor for a name", async () => {
    using silent = await receiver(0);
    const { clock, store, outcomes, parts } = await scene({ port: silent.port });
    await store.enqueue("acme", "sandbox.running", messageOf(move(1)).body, clock.wallMs());
    const worker = new WebhookWorker(parts);
    worker.wake();
    await until("it is asked", () => silent.got.length === 1);
    await clock.advance(BOUNDS.deliveryMs);
    await until("it has failed", () => outcomes.length === 1);
    await until("the connection is gone", () => silent.sockets.size === 0);
    await worker.close();
    const slow = await scene();
    await slow.store.enqueue("acme", "sandbox.running", messageOf(move(1)).body, slow.clock.wallMs());
    const other = new WebhookWorker({ ...slow.parts, resolve: () => new Promise(() => undefined) });
    other.wake();
    await settle();
    await slow.clock.advance(BOUNDS.deliveryMs);
    await until("it has failed", () => slow.outcomes.length === 1);
    await other.close();
  });

  test("connects to no private address, whatever a name led to when it was registered", async () => {
    using it = await receiver(200);
    const { clock, store, outcomes, parts } = await scene({ port: it.port });
    await store.enqueue("acme", "sandbox.running", messageOf(move(1)).body, clock.wallMs());
    const worker = new WebhookWorker({ ...parts, allowPrivate: false });
    worker.wake();
    await until("it has failed", () => outcomes.length === 1);
    expect([outcomes, it.heard()]).toEqual([["failed"], ""]);
    await worker.close();
  });

  test("lets no receiver that is silent hold up another's, and sends that one no more than a few at a time", async () => {
    using silent = await receiver(0);
    using quick = await receiver(200);
    const { clock, store, outcomes, parts } = await scene({ port: silent.port });
    const other = { id: "wh_2", url: `http://hook.test:${quick.port}/`, events: ["*"], createdAt: "", waiting: 0 };
    await store.createWebhook("other", { ...other, lastAt: null, lastStatus: null }, "whsec_");
    for (let i = 0; i < 300; i++)
      await store.enqueue("acme", "sandbox.running", messageOf(move(i)).body, clock.wallMs());
    for (let i = 0; i < 30; i++)
      await store.enqueue("other", "sandbox.running", messageOf(move(i)).body, clock.wallMs());
    const worker = new WebhookWorker(parts);
    worker.wake();
    await until("the other has all of its own", () => quick.got.length === 30);
    await until("the silent one is asked", () => silent.got.length === BOUNDS.deliveriesPerWebhook);
    expect(outcomes).toEqual(Array.from({ length: 30 }, () => "delivered"));
    // Nobody else may have got what was held for long: its lease is as good as over.
    for (let i = 0; i < 10; i++) await clock.advance(BOUNDS.deliveryMs);
    expect(new Set(outcomes.slice(30))).toEqual(new Set(["failed"]));
    await worker.close();
  });

  test("lets no account whose receivers are all silent hold up another's, however much it has due", async () => {
    using silent = await receiver(0);
    using quick = await receiver(200);
    const { clock, store, parts } = await scene({ port: silent.port });
    const hook = (n: number, port: number) => ({
      ...{ id: `wh_${n}`, url: `http://hook.test:${port}/`, events: ["*"], createdAt: "", waiting: 0 },
      ...{ lastAt: null, lastStatus: null },
    });
    for (let n = 2; n <= 32; n++) await store.createWebhook("acme", hook(n, silent.port), "whsec_");
    await store.createWebhook("other", hook(33, quick.port), "whsec_");
    for (let i = 0; i < 100; i++)
      await store.enqueue("acme", "sandbox.running", messageOf(move(i)).body, clock.wallMs());
    for (let i = 0; i < 30; i++) {
      const { body } = messageOf(move(i, "running", "other"));
      await store.enqueue("other", "sandbox.running", body, clock.wallMs() + 1);
    }
    const worker = new WebhookWorker(parts);
    worker.wake();
    await until("the silent ones are asked", () => silent.got.length === BOUNDS.deliveriesPerAccount);
    await settle();
    expect(silent.got.length).toBe(BOUNDS.deliveriesPerAccount);
    await clock.advance(BOUNDS.deliveryMs + BOUNDS.deliveryPollMs);
    await until("the other has all of its own", () => quick.got.length === 30);
    await worker.close();
  });

  test("goes on when the store was away, and sends several at a time and no more", async () => {
    using silent = await receiver(0);
    const { clock, store, parts } = await scene({ port: silent.port });
    for (let i = 0; i < 40; i++)
      await store.enqueue("acme", "sandbox.running", messageOf(move(i)).body, clock.wallMs());
    store.away = new WarrenError("store_unavailable", "away");
    const worker = new WebhookWorker(parts);
    worker.wake();
    await clock.advance(BOUNDS.deliveryPollMs);
    expect(silent.got.length).toBe(0);
    store.away = null;
    await clock.advance(BOUNDS.deliveryPollMs);
    await until("they are asked", () => silent.got.length === BOUNDS.deliveriesPerWebhook);
    await worker.close();
    expect(silent.got.length).toBe(BOUNDS.deliveriesPerWebhook);
  });
});

describe("WebhookQueue", () => {
  test("queues moves in order, and those made while the store is away when it is back", async () => {
    const { clock, store } = await scene();
    let queued = 0;
    const queue = new WebhookQueue({ store, clock, log }, () => {
      queued += 1;
    });
    queue.take(move(1));
    await settle();
    store.away = new WarrenError("store_unavailable", "away");
    for (let i = 2; i < 6; i++) queue.take(move(i));
    await clock.advance(5_000);
    expect(queued).toBe(1);
    store.away = null;
    await clock.advance(15_000);
    const due = await store.due(clock.wallMs(), 100, 1);
    expect(due.map(({ body }) => JSON.parse(body).sandbox.sequence)).toEqual([1, 2, 3, 4, 5]);
    queue.close();
  });

  test("asks once for a burst of an account that has none, and sees one that is made here at once", async () => {
    const { clock, store } = await scene();
    const queue = new WebhookQueue({ store, clock, log }, () => undefined);
    for (let i = 1; i < 50; i++) queue.take(move(i, "running", "other"));
    await settle();
    expect(store.calls.get("enqueue")).toBe(1);
    const info = {
      id: "wh_2",
      url: "http://x.test/",
      events: ["*"],
      createdAt: "",
      waiting: 0,
      lastAt: null,
      lastStatus: null,
    };
    await store.createWebhook("other", info, "whsec_");
    queue.made("other");
    queue.take(move(50, "running", "other"));
    await settle();
    expect((await store.webhooks("other"))[0]?.waiting).toBe(1);
    await clock.advance(BOUNDS.webhooklessMs);
    queue.close();
  });
});

test("A signature is what other implementations make of the same", () => {
  // The example of the specification's reference libraries.
  const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  const headers = signed(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330_000, '{"test": 2432232314}');
  expect(headers["webhook-signature"]).toBe("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
  expect(headers["webhook-timestamp"]).toBe("1614265330");
});

describe("/v1/webhooks", () => {
  const start = (options: EdgeOptions = {}, settings: ApiOptions["settings"] = {}) =>
    Api.start({ edge: (parts) => createEdge(parts, { resolve: async () => ["93.184.216.34"], ...options }), settings });

  test("are made, shown without their secret, and removed, by their account alone", async () => {
    await using api = await start();
    const made = await api.call("POST", "/v1/webhooks", { url: "https://hook.test/in#x", events: ["sandbox.running"] });
    expect(made.status).toBe(201);
    const { id, secret } = made.body as unknown as { id: string; secret: string };
    expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(made.body).toMatchObject({
      url: "https://hook.test/in",
      events: ["sandbox.running"],
      waiting: 0,
      last_status: null,
    });
    const listed = await api.call("GET", "/v1/webhooks");
    expect(listed.body).toMatchObject({ items: [{ id }] });
    expect(JSON.stringify(listed.body)).not.toContain("whsec_");
    const key = await api.key("stranger");
    expect((await api.call("GET", "/v1/webhooks", undefined, { key })).body).toEqual({ items: [] } as never);
    expect((await api.raw("DELETE", `/v1/webhooks/${id}`, { key })).status).toBe(404);
    expect((await api.raw("DELETE", `/v1/webhooks/${id}`)).status).toBe(204);
    expect((await api.raw("DELETE", `/v1/webhooks/${id}`)).status).toBe(404);
  });

  test("refuse private addresses, other events, too many, and all of them where there are none", async () => {
    await using api = await start();
    const status = async (body: object, of = api) => (await of.call("POST", "/v1/webhooks", body)).status;
    expect(await status({ url: "http://127.0.0.1/" })).toBe(400);
    expect(await status({ url: `http://${"user:pass"}@hook.test/` })).toBe(400);
    expect(await status({ url: "https://hook.test/", events: ["other"] })).toBe(400);
    for (let i = 0; i < BOUNDS.webhooksPerAccount; i++) expect(await status({ url: "https://hook.test/" })).toBe(201);
    expect(await status({ url: "https://hook.test/" })).toBe(429);
    await using inside = await start({ resolve: async () => ["10.0.0.1"] });
    expect(await status({ url: "https://hook.test/" }, inside)).toBe(400);
    await using none = await start({}, { webhooks: false });
    expect(await status({ url: "https://hook.test/" }, none)).toBe(400);
  });

  test("hear of a sandbox's whole life, of the events that they asked for", async () => {
    using it = await receiver(200);
    await using api = await start({ resolve: anywhere }, { webhooksToPrivate: true });
    const url = `http://hook.test:${it.port}/`;
    expect(
      (await api.call("POST", "/v1/webhooks", { url, events: ["sandbox.running", "sandbox.deleted"] })).status,
    ).toBe(201);
    const { id } = (await api.call("POST", "/v1/sandboxes", {})).body as unknown as { id: string };
    await api.raw("DELETE", `/v1/sandboxes/${id}`);
    await until("both are there", () => it.got.length === 2);
    const bodies = it.got.map(({ body }) => JSON.parse(body));
    expect(bodies.map(({ type }) => type).toSorted()).toEqual(["sandbox.deleted", "sandbox.running"]);
    expect(bodies.every(({ sandbox, account }) => sandbox.id === id && account === "admin")).toBe(true);
  });
});
