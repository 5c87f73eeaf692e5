/**
 * Receivers as their documentation has them, strict: a request that the real one would refuse is refused here. Each counts what
 * it took once by id, and how often it got it; the network in front of it may be told to fail.
 */
import type { SinkInfo } from "../../src/contract/routes/api/billing.ts";
import { Faults } from "./faults.ts";

export interface Taken {
  readonly id: string;
  readonly customer: string;
  readonly code: string;
  readonly quantity: string;
  /** Milliseconds since the Unix epoch. */
  readonly atMs: number;
}

interface Refusal {
  readonly status: number;
  readonly body: unknown;
}

interface Asked {
  readonly headers: Headers;
  readonly path: string;
  readonly body: string;
}

export const TOKEN = {
  webhook: `whsec_${Buffer.from("0123456789abcdef0123456789abcdef").toString("base64")}`,
} as const;
export const KEY = "sk_test_1";

class Refused extends Error {
  readonly refusal: Refusal;
  constructor(status: number, body: unknown) {
    super(`refused: ${status}`);
    this.refusal = { status, body };
  }
}

function need(holds: boolean, says: string, status = 400): void {
  if (!holds) throw new Refused(status, { error: { message: says, type: "invalid_request_error" } });
}

function text(value: unknown, says: string): string {
  need(typeof value === "string" && value !== "", says);
  return String(value);
}

function hasKey(headers: Headers): void {
  const given = headers.get("authorization");
  need(given === `Bearer ${KEY}`, `no such key: ${given}`, 401); // it repeats what it was sent, as some do
}

interface CloudEvent {
  readonly [name: string]: unknown;
  readonly data?: Readonly<Record<string, unknown>>;
}

function cloudEvent(event: CloudEvent): Taken {
  need(event.specversion === "1.0", "specversion");
  text(event.source, "source");
  const type = text(event.type, "type");
  const time = text(event.time, "time");
  need(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(time), "time is no RFC 3339");
  for (const value of Object.values(event.data ?? {})) need(typeof value === "string", "data is not text");
  return {
    id: text(event.id, "id"),
    customer: text(event.subject, "subject"),
    code: type,
    quantity: text(event.data?.quantity, "quantity"),
    atMs: Date.parse(time),
  };
}

/** A running receiver. */
export class TestReceiver implements AsyncDisposable {
  readonly kind: SinkInfo["kind"];
  readonly taken = new Map<string, Taken>();
  /** Deliveries of what it had. */
  duplicates = 0;
  requests = 0;
  /** What it said to requests that it refused for another reason than that it had it. */
  readonly refusals: string[] = [];
  /** So many of Stripe's next events fail as its own do: with a 500 that is kept under the request's key. */
  ownFailures = 0;
  /** Most requests of one of Stripe's customers and meters at one time. */
  atOnce = 0;
  /** Its clock. */
  nowMs: () => number;
  readonly #server: Bun.Server<undefined>;
  readonly #network: Promise<Faults>;
  readonly #keys = new Map<string, { readonly body: string; readonly response: Refusal }>();
  readonly #calls = new Map<string, number>();

  private constructor(kind: SinkInfo["kind"], nowMs: () => number) {
    this.kind = kind;
    this.nowMs = nowMs;
    this.#server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: (request) => this.#answer(request) });
    this.#network = Faults.before(this.#server.port ?? 0);
  }

  static async open(kind: SinkInfo["kind"], nowMs: () => number): Promise<TestReceiver & { readonly faults: Faults }> {
    const receiver = new TestReceiver(kind, nowMs);
    return Object.assign(receiver, { faults: await receiver.#network });
  }

  async url(): Promise<string> {
    return `http://127.0.0.1:${(await this.#network).port}${this.kind === "webhook" ? "/usage" : "/"}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#network)[Symbol.asyncDispose]();
    await this.#server.stop(true);
  }

  async #answer(request: Request): Promise<Response> {
    this.requests += 1;
    const { status, body } = await this.#judge({
      headers: request.headers,
      path: new URL(request.url).pathname,
      body: await request.text(),
    });
    return status === 204 ? new Response(null, { status }) : Response.json(body, { status });
  }

  async #judge(asked: Asked): Promise<Refusal> {
    try {
      return await this.#read[this.kind](asked);
    } catch (cause) {
      if (!(cause instanceof Refused)) throw cause;
      this.refusals.push(JSON.stringify(cause.refusal.body));
      return cause.refusal;
    }
  }

  #take(all: readonly Taken[]): void {
    for (const one of all) {
      if (this.taken.has(one.id)) this.duplicates += 1;
      else this.taken.set(one.id, one);
    }
  }

  readonly #read: Readonly<Record<SinkInfo["kind"], (asked: Asked) => Refusal | Promise<Refusal>>> = {
    webhook: ({ headers, path, body }) => {
      need(path === "/usage", "no such path", 404);
      need(headers.get("content-type") === "application/cloudevents+json", "content type", 415);
      const [id, timestamp] = [headers.get("webhook-id") ?? "", headers.get("webhook-timestamp") ?? ""];
      need(Math.abs(Number(timestamp) * 1000 - this.nowMs()) < 300_000, "too old", 401);
      const key = Buffer.from(TOKEN.webhook.slice(6), "base64");
      const signature = new Bun.CryptoHasher("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
      need(headers.get("webhook-signature") === `v1,${signature}`, "signature", 401);
      const event = cloudEvent(JSON.parse(body) as CloudEvent);
      need(event.id === id, "webhook-id is another");
      this.#take([event]);
      return { status: 202, body: {} };
    },
    openmeter: ({ headers, path, body }) => {
      hasKey(headers);
      need(path === "/api/v1/events", "no such path", 404);
      const type = headers.get("content-type");
      const batch = type === "application/cloudevents-batch+json";
      need(batch || type === "application/cloudevents+json", "invalid content type");
      const said = JSON.parse(body) as CloudEvent | CloudEvent[];
      need(Array.isArray(said) === batch, "not what the content type says");
      const events = Array.isArray(said) ? said : [said];
      need(events.length > 0, "no events found");
      this.#take(events.map(cloudEvent));
      return { status: 204, body: null };
    },
    lago: ({ headers, path, body }) => {
      hasKey(headers);
      need(headers.get("content-type") === "application/json", "content type", 415);
      need(path === "/api/v1/events" || path === "/api/v1/events/batch", "no such path", 404);
      const isBatch = path.endsWith("/batch");
      const said = JSON.parse(body) as { event?: LagoEvent; events?: LagoEvent[] };
      const events = isBatch ? (said.events ?? []) : said.event === undefined ? [] : [said.event];
      const invalid = (error_details: unknown): never => {
        throw new Refused(422, {
          status: 422,
          error: "Unprocessable Entity",
          code: "validation_errors",
          error_details,
        });
      };
      if (events.length === 0) invalid({ events: ["no_events"] });
      if (events.length > 100) invalid({ events: ["too_many_events"] });
      const details = events.map((event) => this.#lagoErrors(event));
      const wrong = details.flatMap((errors, i) => (Object.keys(errors).length === 0 ? [] : ([[i, errors]] as const)));
      if (wrong.length > 0) {
        this.duplicates += wrong.filter(([, errors]) => errors.transaction_id?.includes("value_already_exist")).length;
        const isDuplicatesOnly = wrong.every(([, errors]) => errors.transaction_id?.[0] === "value_already_exist");
        if (isDuplicatesOnly)
          return {
            status: 422,
            body: {
              status: 422,
              code: "validation_errors",
              error_details: isBatch ? Object.fromEntries(wrong) : details[0],
            },
          };
        invalid(isBatch ? Object.fromEntries(wrong) : details[0]);
      }
      this.#take(
        events.map(({ transaction_id: id, external_subscription_id, code, timestamp, properties }) => ({
          ...{ id: String(id), customer: String(external_subscription_id), code: String(code) },
          ...{ quantity: String(properties?.quantity), atMs: Math.round(Number(timestamp) * 1000) },
        })),
      );
      return { status: 200, body: {} };
    },
    stripe: async ({ headers, path, body }) => {
      hasKey(headers);
      need(path === "/v1/billing/meter_events", "no such path", 404);
      need(headers.get("content-type") === "application/x-www-form-urlencoded", "content type");
      const key = headers.get("idempotency-key") ?? "";
      need(key !== "" && key.length <= 255, "Idempotency-Key");
      const before = this.#keys.get(key);
      if (before !== undefined) {
        need(before.body === body, "Keys for idempotent requests can only be used with the same parameters");
        return before.response;
      }
      const response = await this.#meterEvent(new URLSearchParams(body));
      this.#keys.set(key, { body, response });
      return response;
    },
  };

  #lagoErrors(event: LagoEvent): Record<string, string[]> {
    const errors: Record<string, string[]> = {};
    const { transaction_id: id, external_subscription_id: subscription, code, timestamp, properties } = event;
    if (typeof id !== "string" || id === "") errors.transaction_id = ["value_is_mandatory"];
    else if (this.taken.has(id)) errors.transaction_id = ["value_already_exist"];
    if (typeof subscription !== "string" || subscription === "")
      errors.external_subscription_id = ["value_is_mandatory"];
    if (typeof code !== "string" || code === "") errors.code = ["value_is_mandatory"];
    if (!/^\d+(\.\d{1,3})?$/.test(String(timestamp))) errors.timestamp = ["invalid_format"];
    if (!/^\d+$/.test(String(properties?.quantity))) errors.properties = ["value_is_invalid"];
    return errors;
  }

  async #meterEvent(form: URLSearchParams): Promise<Refusal> {
    const field = (name: string): string => text(form.get(name), `Missing required param: ${name}.`);
    const [code, id, customer, quantity] = [
      "event_name",
      "identifier",
      "payload[stripe_customer_id]",
      "payload[value]",
    ].map(field);
    need(String(id).length <= 100 && String(code).length <= 100, "Invalid string: at most 100 characters");
    need(/^cus_\w+$/.test(String(customer)), "No such customer");
    need(/^\d+$/.test(String(quantity)), "Invalid value: whole numbers only");
    const atMs = Number(field("timestamp")) * 1000;
    need(Number.isInteger(atMs) && atMs >= this.nowMs() - 35 * 86_400_000, "timestamp is too far in the past");
    need(atMs <= this.nowMs() + 300_000, "timestamp is too far in the future");
    const lane = `${customer} ${code}`;
    this.#calls.set(lane, (this.#calls.get(lane) ?? 0) + 1);
    this.atOnce = Math.max(this.atOnce, this.#calls.get(lane) ?? 0);
    await new Promise((resolve) => setImmediate(resolve));
    this.#calls.set(lane, (this.#calls.get(lane) ?? 0) - 1);
    if (this.ownFailures > 0) {
      this.ownFailures -= 1;
      return { status: 500, body: { error: { message: "An error occurred internally", type: "api_error" } } };
    }
    if (this.taken.has(String(id))) {
      this.duplicates += 1;
      const message = `An event already exists with identifier ${id}.`;
      return { status: 400, body: { error: { message, type: "invalid_request_error" } } };
    }
    this.#take([{ id: String(id), customer: String(customer), code: String(code), quantity: String(quantity), atMs }]);
    return { status: 200, body: { object: "billing.meter_event", identifier: id } };
  }
}

interface LagoEvent {
  readonly transaction_id?: unknown;
  readonly external_subscription_id?: unknown;
  readonly code?: unknown;
  readonly timestamp?: unknown;
  readonly properties?: { readonly quantity?: unknown };
}
