/** Every row of the table on the wire: what goes in comes out, names are those of the wire, and what is wrong is named. */
import { describe, expect, test } from "bun:test";
import type { TObject, TSchema } from "@sinclair/typebox";
import { Kind } from "@sinclair/typebox";
import { TypeCompiler } from "@sinclair/typebox/compiler";
import { Value } from "@sinclair/typebox/value";
import fc from "fast-check";
import { parse } from "../../src/contract/parse.ts";
import type { Route } from "../../src/contract/route.ts";
import { fromPath, fromQuery, placeOf, toPath, toQuery } from "../../src/contract/split.ts";
import { type RowName, table } from "../../src/contract/table.ts";
import { wireOf } from "../../src/contract/wire/wire.ts";
import { isWarrenError } from "../../src/errors.ts";
import { arbitrary, broken, type Overrides } from "../harness/arbitrary.ts";

const names = Object.keys(table) as RowName[];
const rowOf = (name: RowName): Route => table[name];
const json = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

/** Where a schema allows more than there is. */
const REAL: Overrides = {
  mode: fc.integer({ min: 0, max: 0o7777 }),
  context: fc.integer({ min: 1, max: 2 ** 31 }),
  size: fc.nat(),
};

/** Some inputs have rules that no schema says. */
function inputs(name: RowName): fc.Arbitrary<Record<string, unknown>> {
  const { mode: _, ...real } = REAL;
  const any = arbitrary(rowOf(name).input, name === "chmod" ? REAL : real) as fc.Arbitrary<Record<string, unknown>>;
  if (name !== "exec" && name !== "run") return any;
  const commands = ["cmd", "argv", "python"];
  const properties = rowOf(name).input.properties;
  return fc.constantFrom(...commands).chain((kept) =>
    fc.tuple(any, arbitrary(properties[kept] as TSchema)).map(([input, command]) => {
      const rest = Object.entries(input).filter(([key]) => !commands.includes(key));
      return { ...Object.fromEntries(rest), [kept]: command };
    }),
  );
}

/** What an input means: two that are settled alike are the same. */
function settled(name: RowName, input: Record<string, unknown>): Record<string, unknown> {
  const { template, metadata, ...rest } = input;
  const noEntries = Object.keys(metadata ?? {}).length === 0;
  if (name === "list") return { ...rest, template, ...(noEntries ? {} : { metadata }) };
  return name === "create" && input["snapshot"] !== undefined ? { ...rest, metadata } : input;
}

/** Without what is `undefined`, and bytes as numbers, so that equality is of values. */
const comparable = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value, (_, one) => (one instanceof Uint8Array ? { bytes: [...one] } : one)));

describe("wireOf", () => {
  for (const name of names) {
    const row = rowOf(name);
    const wire = wireOf(name);

    test(`${name}: an input comes back from the wire as it was`, () => {
      const check = TypeCompiler.Compile(wire.input.schema);
      fc.assert(
        fc.property(inputs(name), (input) => {
          const sent = json(wire.input.encode(input)) as Record<string, unknown>;
          if (!check.Check(sent)) throw new Error(JSON.stringify([sent, check.Errors(sent).First()]));
          const got = wire.input.decode(sent) as Record<string, unknown>;
          expect(comparable(settled(name, got))).toEqual(comparable(settled(name, input)));
        }),
        { numRuns: 60 },
      );
    });

    test(`${name}: an input comes back from its path, query and body`, () => {
      fc.assert(
        fc.property(inputs(name), (input) => {
          const sent = json(wire.input.encode(input)) as Record<string, unknown>;
          const at = (place: string) =>
            Object.fromEntries(Object.entries(sent).filter(([key]) => placeOf(row, key) === place));
          const params = matched(row.path, toPath(row.path, at("path")));
          const query = new URLSearchParams(toQuery(at("query")).toString());
          const got = { ...fromPath(wire.input.schema, params), ...fromQuery(wire.input.schema, query), ...at("body") };
          expect(comparable(wire.input.decode(parse(wire.input.schema, got)))).toEqual(
            comparable(settled(name, input)),
          );
        }),
        { numRuns: 30 },
      );
    });

    test(`${name}: each field that is wrong is named`, () => {
      const valid = fc.sample(inputs(name), { numRuns: 5, seed: 3 }).map((input) => json(wire.input.encode(input)));
      for (const { field, why, of } of broken(wire.input.schema)) {
        for (const input of valid as Record<string, unknown>[]) {
          const wrong = of(input);
          expect({ name, field, why, said: saidBy(wire.input.schema, wrong) }).toMatchObject({ said: field });
        }
      }
    });

    if (wire.output !== null && isSchema(row.returns)) {
      const { output } = wire;
      const results = arbitrary(row.returns, REAL);
      test(`${name}: a result comes back from the wire as it was`, () => {
        const check = TypeCompiler.Compile(output.schema);
        fc.assert(
          fc.property(results, (result) => {
            const sent = json(output.encode(result, {}));
            if (!check.Check(sent)) throw new Error(JSON.stringify([sent, check.Errors(sent).First()]));
            expect(comparable(output.decode(sent))).toEqual(comparable(result));
          }),
          { numRuns: 40 },
        );
      });

      test(`${name}: a result of a newer server is understood`, () => {
        fc.assert(
          fc.property(results, (result) => {
            const sent = newer(json(output.encode(result, {})));
            expect(Value.Check(output.schema, sent)).toBe(true);
            expect(comparable(output.decode(sent))).toEqual(comparable(result));
          }),
          { numRuns: 10 },
        );
      });
    }

    test(`${name}: keys are in snake_case`, () => {
      const schemas = [wire.input.schema, wire.output?.schema, ...Object.values(wire.events?.schemas ?? {})];
      const keys = schemas.flatMap((schema) => (schema === undefined ? [] : keysOf(schema)));
      expect(keys.filter((key) => !/^[a-z][a-z0-9]*(_[a-z0-9]+)*$/.test(key))).toEqual([]);
    });
  }
});

function isSchema(returns: Route["returns"]): returns is TSchema {
  return typeof returns === "object" && Kind in returns;
}

/** What a router finds in a URL's path. */
function matched(pattern: string, path: string): Record<string, string> {
  const keys = pattern.split("/");
  const texts = path.split("/");
  expect(texts.length).toBe(keys.length);
  return Object.fromEntries(
    keys.flatMap((key, at) => (key.startsWith(":") ? [[key.slice(1), decodeURIComponent(texts[at] ?? "")]] : [])),
  );
}

function saidBy(schema: TObject, value: unknown): unknown {
  try {
    parse(schema, value);
    return "it was accepted";
  } catch (error) {
    return isWarrenError(error, "invalid_request") ? error.details["field"] : error;
  }
}

/** Every object of an answer with a field that this version does not know; records are left alone, which have any key. */
function newer(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(newer);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, one]): [string, unknown] => {
    const isRecord = ["metadata", "failures", "results", "meters", "group", "included"].includes(key);
    return [key, isRecord ? one : newer(one)];
  });
  return { ...Object.fromEntries(entries), from_the_future: { any: 1 } };
}

function keysOf(schema: TSchema): string[] {
  const properties = (schema["properties"] ?? {}) as Record<string, TSchema>;
  const inner = [
    ...((schema["anyOf"] ?? []) as TSchema[]),
    ...(schema["items"] === undefined ? [] : [schema["items"]]),
  ];
  return [
    ...Object.entries(properties).flatMap(([key, field]) => [key, ...keysOf(field)]),
    ...inner.flatMap((one) => keysOf(one as TSchema)),
  ];
}
