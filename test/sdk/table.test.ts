/** Every row of the table through the client: what the server is asked is what was asked for, and its answer what comes back. */
import { afterAll, describe, expect, test } from "bun:test";
import { Kind, type TSchema } from "@sinclair/typebox";
import fc from "fast-check";
import { parse } from "../../src/contract/parse.ts";
import type { Route } from "../../src/contract/route.ts";
import { fromPath, fromQuery, pathKeys, takesBody } from "../../src/contract/split.ts";
import { type RowName, table } from "../../src/contract/table.ts";
import { successOf, wireOf } from "../../src/contract/wire/wire.ts";
import { arbitrary } from "../harness/arbitrary.ts";
import { type Asked, all, eventStream, fakeServer, KEY } from "./fake-server.ts";

type Call = (input: unknown) => Promise<unknown>;
type Fields = Record<string, unknown>;

const RUNS = 8;
const COMMANDS = ["cmd", "argv", "python"];
const real = {
  mode: fc.integer({ min: 0, max: 0o7777 }),
  size: fc.nat(),
  context: fc.integer({ min: 1, max: 2 ** 31 }),
};
const rows = (Object.entries(table) as [RowName, Route][]).filter(
  ([, { returns, upload }]) => returns !== "socket" && !(returns === "bytes" && upload === true),
);

let answer: (asked: Asked) => Response = () => new Response();
const server = fakeServer((asked) => answer(asked));
afterAll(() => server[Symbol.asyncDispose]());
const calls = server.client.host as unknown as Readonly<Record<string, Call>>;

function inputs(name: RowName, { input }: Route): fc.Arbitrary<Fields> {
  const any = arbitrary(input, { context: real.context }) as fc.Arbitrary<Fields>;
  if (name === "list") return any.map(withoutEmpty);
  if (name !== "exec" && name !== "run") return any.filter(isNamed);
  return fc
    .tuple(any, fc.constantFrom(...COMMANDS), fc.string())
    .map(([given, kept, text]) => {
      const rest = Object.fromEntries(Object.entries(given).filter(([key]) => !COMMANDS.includes(key)));
      const word = text.replaceAll("\0", "");
      return { ...rest, [kept]: kept === "cmd" ? word : kept === "argv" ? ["echo", word] : { code: word } };
    })
    .filter(isNamed);
}

const isNamed = (input: Fields): boolean => !Object.values(input).some((value) => value === "." || value === "..");

/** A query cannot say that there are none. */
function withoutEmpty({ metadata, ...rest }: Fields): Fields {
  return Object.keys(metadata ?? {}).length === 0 ? rest : { ...rest, metadata };
}

/** As a server reads it. */
function received(row: Route, name: RowName, { url, body }: Asked): unknown {
  const { schema } = wireOf(name).input;
  const pattern = new RegExp(`^${row.path.replace(/:\w+/g, "([^/]+)")}$`);
  const texts = pattern.exec(url.pathname)?.slice(1) ?? [];
  expect(texts.length).toBe(pathKeys(row).length);
  const params = Object.fromEntries(pathKeys(row).map((key, at) => [key, decodeURIComponent(texts[at] ?? "")]));
  const text = new TextDecoder().decode(body);
  const json = takesBody(row) && text !== "" ? (JSON.parse(text) as Fields) : {};
  const fields = { ...fromPath(schema, params), ...fromQuery(schema, url.searchParams), ...json };
  return wireOf(name).input.decode(parse(schema, fields));
}

const comparable = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value, (_, one) => (one instanceof Uint8Array ? { bytes: [...one] } : one)) ?? "null");
const overJson = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

/** What a signal ended has no code of its own. */
function possible(event: unknown): unknown {
  const { kind, exitCode, signal } = event as { kind?: string; exitCode?: number | null; signal?: string | null };
  if (kind !== "exit") return event;
  return { ...(event as object), exitCode: signal === null ? (exitCode ?? 0) : null };
}

interface Kinds {
  readonly results: fc.Arbitrary<unknown>;
  respond(result: unknown, input: unknown): Response;
  heard(value: unknown): Promise<unknown>;
}

/** What a row answers, by what it returns. */
function kindOf(name: RowName, { returns }: Route): Kinds {
  const { output, events } = wireOf(name);
  const status = successOf(name);
  if (returns === "nothing") {
    const body = output === null ? null : JSON.stringify(output.encode(undefined, {}));
    return {
      results: fc.constant(undefined),
      respond: () => new Response(body, { status }),
      heard: async (value) => value,
    };
  }
  if (returns === "bytes") {
    return {
      results: fc.uint8Array({ maxLength: 3000 }),
      respond: (bytes) => new Response(bytes as Uint8Array<ArrayBuffer>),
      heard: async (value) => new Uint8Array(Buffer.concat(await all(value as AsyncIterable<Uint8Array>))),
    };
  }
  if (events !== null) {
    const { events: schema } = returns as { readonly events: TSchema };
    return {
      results: fc.array(arbitrary(schema, real).map(possible), { maxLength: 5 }),
      respond: (given) => {
        const encoder = events.encoder({ encoding: "base64" });
        return eventStream([...(given as unknown[]).flatMap((event) => encoder.encode(event)), ...encoder.end()]);
      },
      heard: (value) => all(value as AsyncIterable<unknown>),
    };
  }
  if (typeof returns !== "object" || !(Kind in returns) || output === null) throw new Error(`${name} returns what?`);
  return {
    results: arbitrary(returns, real),
    respond: (result, input) => Response.json(output.encode(result, input), { status }),
    heard: async (value) => value,
  };
}

describe("The client over every row", () => {
  for (const [name, row] of rows) {
    const { results, respond, heard } = kindOf(name, row);

    test(`${name}: its request is the row's, and its answer comes back`, async () => {
      const bodies = fc.uint8Array({ minLength: 1, maxLength: 500 });
      await fc.assert(
        fc.asyncProperty(inputs(name, row), results, bodies, async (input, result, body) => {
          answer = () => respond(result, input);
          const given = row.upload === true ? { ...input, body } : input;
          const value = await heard(await calls[name]?.(given));
          const asked = server.asked.at(-1);
          if (asked === undefined) throw new Error("the server was not asked");
          expect(asked.method).toBe(row.method);
          expect(asked.headers.get("authorization")).toBe(`Bearer ${KEY}`);
          expect(asked.url.href).not.toContain(KEY);
          const { input: codec } = wireOf(name);
          expect(comparable(received(row, name, asked))).toEqual(
            comparable(codec.decode(overJson(codec.encode(input)))),
          );
          if (row.upload === true) expect([...asked.body]).toEqual([...body]);
          expect(comparable(value ?? null)).toEqual(comparable(result ?? null));
          expect(asked.headers.has("idempotency-key")).toBe(name === "create");
        }),
        { numRuns: RUNS },
      );
    });
  }

  test("has every row but WebSockets of their own kind, and what it refuses is not sent", async () => {
    const names = Object.entries(table as Readonly<Record<string, Route>>).filter(
      ([, row]) => row.returns !== "socket",
    );
    expect(Object.keys(calls).sort()).toEqual(names.map(([name]) => name).sort());
    const before = server.asked.length;
    await expect(calls["create"]?.({ memoryMb: 1 })).rejects.toThrow(/memoryMb.*at least 128/);
    await expect(calls["get"]?.({ id: "" })).rejects.toThrow("id");
    for (const id of [".", ".."]) await expect(calls["detachVolume"]?.({ id, name: "data" })).rejects.toThrow("id");
    expect(server.asked.length).toBe(before);
  });
});
