/**
 * The OpenAPI document: valid, complete, and no other than the one that was looked at. To renew `test/golden/openapi.json`,
 * delete it and run this file: it is written again, and the difference is to be read before it is committed.
 */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { Validator } from "@seriousme/openapi-schema-validator";
import { fieldsWithWords } from "../../src/contract/openapi/words.ts";
import { errorsByStatus, openapi } from "../../src/contract/openapi.ts";
import { parse } from "../../src/contract/parse.ts";
import type { Route } from "../../src/contract/route.ts";
import { fromPath } from "../../src/contract/split.ts";
import { type RowName, table } from "../../src/contract/table.ts";
import { successOf, wireOf } from "../../src/contract/wire/wire.ts";

type Json = Readonly<Record<string, unknown>>;
const rows = Object.entries(table) as [RowName, Route][];
const document = openapi({ version: "0.0.0" });
const paths = document["paths"] as Record<string, Record<string, Json>>;
const braced = (path: string): string => path.replace(/:(\w+)/g, "{$1}");
const methodOf = (name: RowName, { method }: Route): string => (successOf(name) === 101 ? "get" : method.toLowerCase());
const operations = Object.values(paths).flatMap((path) => Object.values(path));

describe("openapi", () => {
  test("is valid OpenAPI 3.1", async () => {
    const { valid, errors } = await new Validator().validate(JSON.parse(JSON.stringify(document)));
    expect({ valid, errors }).toEqual({ valid: true, errors: undefined });
    const { info: _, ...rest } = document;
    expect((await new Validator().validate(rest)).valid).toBe(false);
  });

  test("has each row under each of its paths, with its parameters", () => {
    for (const [name, route] of rows) {
      for (const path of [route.path, ...(route.aliases ?? [])]) {
        const found = paths[braced(path)]?.[methodOf(name, route)];
        expect(found).toMatchObject({ summary: route.says });
        const parameters = (found?.["parameters"] ?? []) as { name?: string; in?: string }[];
        const inPath = parameters.filter((one) => one.in === "path").map((one) => one.name);
        expect(inPath).toEqual([...path.matchAll(/:(\w+)/g)].map(([, key]) => key));
      }
    }
  });

  test("has no two operations of one name", () => {
    const ids = operations.map(({ operationId }) => operationId);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test("has every field of every input, somewhere", () => {
    for (const [name, route] of rows) {
      const found = paths[braced(route.path)]?.[methodOf(name, route)] as Json;
      const parameters = ((found["parameters"] ?? []) as { name?: string }[]).map((one) => one.name?.split(".")[0]);
      const body = found["requestBody"] as { content: Record<string, { schema: { properties?: object } }> } | undefined;
      const inBody = Object.values(body?.content ?? {}).flatMap(({ schema }) => Object.keys(schema.properties ?? {}));
      for (const key of Object.keys(wireOf(name).input.schema.properties))
        expect({ name, key, found: [...parameters, ...inBody].includes(key) }).toEqual({ name, key, found: true });
    }
  });

  test("shows of each JSON body one that the operation takes", () => {
    for (const [name, route] of rows) {
      const found = paths[braced(route.path)]?.[methodOf(name, route)] as Json;
      const body = found["requestBody"] as { content: Record<string, { example?: object }> } | undefined;
      const json = body?.content["application/json"];
      if (json === undefined) continue;
      const { schema } = wireOf(name).input;
      const ids = Object.fromEntries([...route.path.matchAll(/:(\w+)/g)].map(([, key]) => [key, "1"]));
      const given = { ...fromPath(schema, ids), ...json.example };
      expect({ name, decoded: wireOf(name).input.decode(parse(schema, given)) }).toMatchObject({ name });
    }
  });

  test("has every error of a row under its status", () => {
    for (const [name, route] of rows) {
      const responses = (paths[braced(route.path)]?.[methodOf(name, route)]?.["responses"] ?? {}) as Json;
      for (const [status, codes] of errorsByStatus(name)) {
        const told = JSON.stringify(resolved(responses[status]));
        for (const code of codes)
          expect({ name, status, code, is: told.includes(`"${code}"`) }).toMatchObject({ is: true });
      }
    }
  });

  test("refers to nothing that is not there", () => {
    const refs = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(([, ref]) => ref ?? "");
    expect(refs.length).toBeGreaterThan(100);
    for (const ref of refs) expect({ ref, found: resolved({ $ref: ref }) !== undefined }).toEqual({ ref, found: true });
  });

  test("tells what is shared once", () => {
    for (const [key, schema] of Object.entries((document["components"] as { schemas: Json }).schemas))
      expect({ key, empty: JSON.stringify(schema) === "{}" || "$ref" in (schema as Json) }).toEqual({
        key,
        empty: false,
      });
    const used = JSON.stringify(paths) + JSON.stringify(document["components"]);
    for (const key of Object.keys((document["components"] as { schemas: Json }).schemas))
      expect({ key, used: used.includes(`"#/components/schemas/${key}"`) }).toEqual({ key, used: true });
  });

  test("has no words for fields that are not there", () => {
    const told = JSON.stringify(document);
    const components = Object.keys((document["components"] as { schemas: Json }).schemas);
    const owners = new Set([...components, ...operations.map(({ operationId }) => operationId)]);
    for (const word of fieldsWithWords) {
      const [field = "", owner] = word.split(".").reverse();
      const found = told.includes(`"${field}"`) && (owner === undefined || owners.has(owner));
      expect({ word, found }).toEqual({ word, found: true });
    }
  });

  test("is the golden one", async () => {
    const path = join(import.meta.dir, "../golden/openapi.json");
    const now = `${JSON.stringify(document, null, 2)}\n`;
    if (!(await Bun.file(path).exists())) {
      await Bun.write(path, now);
      throw new Error(`${path} was not there and is written now: read it, and run this again`);
    }
    expect(now).toBe(await Bun.file(path).text());
  });
});

function resolved(value: unknown): unknown {
  const ref = (value as { $ref?: string } | undefined)?.$ref;
  if (ref === undefined) return value;
  return ref
    .slice(2)
    .split("/")
    .reduce((found: unknown, key) => (found as Record<string, unknown> | undefined)?.[key], document);
}
