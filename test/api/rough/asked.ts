/** Requests to every row of the table, right and nearly right, one after another on one server. */
import type { TSchema } from "@sinclair/typebox";
import fc from "fast-check";
import { createEdge } from "../../../src/api/edge/index.ts";
import { takesBody } from "../../../src/contract/split.ts";
import { wireOf } from "../../../src/contract/wire/wire.ts";
import { arbitrary } from "../../harness/arbitrary.ts";
import { ROWS, request, rowOf } from "../requests.ts";
import { Api } from "../subject.ts";

/** Often something that is there. */
const overrides = {
  id: fc.constantFrom("BOX", "BOX", "BOX", "BOX", "sb_none"),
  name: fc.constantFrom("base", "vol", "nothing"),
  template: fc.constantFrom("base", "nothing"),
  cmd: fc.constantFrom("echo a", "true", "exit 3", "cat"),
  path: fc.constantFrom("/work/a", "/", "/no/where", "/etc/passwd"),
  timeout_seconds: fc.constant(1),
  timeout_ms: fc.constant(1000),
};
const noise = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.string({ unit: "binary" }));

type AskedInput = typeof asked extends fc.Arbitrary<infer Input> ? Input : never;

const asked = fc
  .constantFrom(...ROWS.filter((name) => name !== "revokeToken" && name !== "updateAccount"))
  .chain((name) => {
    const { schema } = wireOf(name).input;
    const keys = Object.keys(schema.properties);
    const spoilt = fc.tuple(fc.constantFrom(...keys, "unknown", "__proto__", "constructor"), noise);
    return fc.record({
      name: fc.constant(name),
      fields: arbitrary(schema as TSchema, overrides) as fc.Arbitrary<Record<string, unknown>>,
      spoilt: fc.option(spoilt, { freq: 2 }),
      body: fc.option(fc.oneof(fc.json(), fc.string({ unit: "binary" })), { freq: 10 }),
      header: fc.option(
        fc.tuple(fc.constantFrom("range", "idempotency-key", "x-request-id", "accept", "upgrade"), fc.string()),
        { freq: 4 },
      ),
    });
  });

/** An API over fakes, with a sandbox that is there again when a request has ended it. */
export class Asked implements AsyncDisposable {
  readonly api: Api;
  box = "";

  private constructor(api: Api) {
    this.api = api;
  }

  static async open(): Promise<Asked> {
    const made = new Asked(await Api.start({ edge: createEdge, settings: { createWaitMs: 2000 } }));
    await made.#make();
    return made;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.api[Symbol.asyncDispose]();
  }

  async #make(): Promise<void> {
    this.box = String((await this.api.call("POST", "/v1/sandboxes", {})).body["id"]);
  }

  async #renewed(): Promise<void> {
    const host = this.api.engine.as("admin");
    const found = await host.get({ id: this.box });
    if (found.state === "running") return;
    for (const { id } of await host.list({})) await host.close({ id }); // all that was made
    await this.#make();
  }

  /** So many requests from a seed (random without one). @returns answers by status. @throws what did not hold, with its input */
  async all(runs: number, seed?: number, tick: () => void = () => undefined): Promise<Record<string, number>> {
    const seen: Record<string, number> = {};
    const property = fc.asyncProperty(asked, async (input) => {
      await this.#renewed();
      const status = await this.#one(input);
      seen[status] = (seen[status] ?? 0) + 1;
      tick();
    });
    await fc.assert(property, { numRuns: runs, ...(seed !== undefined && { seed }) });
    return seen;
  }

  /** @throws when the answer is none that the contract has */
  async #one({ name, fields, spoilt, body, header }: AskedInput): Promise<number> {
    const entries = Object.entries(fields).filter(([key]) => spoilt === null || key !== spoilt[0]);
    // A query has no objects: there, noise is text.
    const flat = (value: unknown) =>
      takesBody(rowOf(name)) || typeof value !== "object" ? value : JSON.stringify(value);
    const wire = Object.fromEntries(spoilt === null ? entries : [...entries, [spoilt[0], flat(spoilt[1])]]);
    if (wire["id"] === "BOX" && name !== "close") wire["id"] = this.box;
    const built = request(name, wire);
    const sent = body !== null && built.body !== null ? body : built.body;
    const headers = new Headers();
    if (header !== null && /^[\x20-\x7e]*$/.test(header[1])) headers.set(...header);
    const leave = new AbortController();
    const init = { headers, signal: leave.signal, ...(sent === null ? {} : { body: sent }) };
    const response = await this.api.raw(built.method, built.path, init);
    const { status } = response;
    const isWhole = response.headers.get("content-type")?.startsWith("application/json") === true;
    const text = isWhole ? await response.text() : "";
    leave.abort();
    if (status === 500) throw new Error(`500: ${text}`);
    if (status < 400) return status;
    const told = JSON.parse(text) as Record<string, unknown>;
    for (const field of ["error", "code", "request_id"]) {
      if (typeof told[field] !== "string") throw new Error(`${status} without ${field}: ${text}`);
    }
    return status;
  }
}
