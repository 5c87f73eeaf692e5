/** The contract table holds together, and parsing by it says what is wrong. */
import { describe, expect, test } from "bun:test";
import { type TSchema, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { Move } from "../../src/contract/move.ts";
import { parse } from "../../src/contract/parse.ts";
import type { Route } from "../../src/contract/route.ts";
import { routes } from "../../src/contract/routes.ts";
import { ERRORS, isWarrenError, WarrenError } from "../../src/errors.ts";

const rows = Object.entries(routes) as [string, Route][];

describe("routes", () => {
  test("name each method and path once", () => {
    const keys = rows.map(([, { method, path }]) => `${method} ${path.replace(/:\w+/g, ":")}`);
    expect(new Set(keys).size).toBe(keys.length);
  });

  test("take every key of their path as input", () => {
    for (const [name, { path, input }] of rows) {
      for (const [, key] of path.matchAll(/:(\w+)/g)) {
        expect({ name, key, known: Object.keys(input.properties) }).toMatchObject({
          known: expect.arrayContaining([key]),
        });
        expect(input.required).toContain(key as string);
      }
    }
  });

  test("refuse fields they do not know", () => {
    for (const [name, { input }] of rows)
      expect({ name, extra: input["additionalProperties"] }).toEqual({ name, extra: false });
  });

  test("say what they do, and name errors that exist", () => {
    for (const [, { says, errors }] of rows) {
      expect(says.length).toBeGreaterThan(10);
      for (const code of errors) expect(Object.hasOwn(ERRORS, code)).toBe(true);
    }
  });

  test("hold schemas that JSON can carry", () => {
    for (const [, { input }] of rows) expect(JSON.parse(JSON.stringify(input))).toBeObject();
  });
});

describe("parse", () => {
  const fails = (schema: TSchema, value: unknown): WarrenError => {
    try {
      parse(schema, value);
    } catch (cause) {
      if (cause instanceof WarrenError) return cause;
    }
    throw new Error("it was accepted");
  };

  test("returns what fits, as it is", () => {
    const input = { template: "base", cpu: 2 };
    expect(parse(routes.create.input, input)).toBe(input);
  });

  test("names the field, what came and what is allowed", () => {
    const error = fails(routes.create.input, { cpu: 99 });
    expect(error.message).toBe("cpu: got 99, allowed is an integer, at least 1, at most 32");
    expect(error.details).toMatchObject({ field: "cpu" });
    expect(fails(routes.create.input, { metadata: { a: 1 } }).message).toContain("metadata.a: got 1");
    expect(fails(routes.get.input, {}).message).toBe("id: is required");
    expect(fails(routes.list.input, { state: "asleep" }).message).toContain('"creating", "running"');
  });

  test("tells every way that is open, and keys as they are", () => {
    expect(fails(routes.signal.input, { id: "a", process: 1, signal: true }).message).toBe(
      "signal: got true, allowed is an integer, at least 1, at most 64; or a string, matching ^SIG[A-Z0-9]+$",
    );
    expect(fails(routes.setLifecycle.input, { id: "a", ttlSeconds: "1" }).message).toEndWith("; or null");
    expect(fails(routes.create.input, { metadata: { "a/b~c": 1 } }).details["field"]).toBe("metadata.a/b~c");
    expect(fails(routes.get.input, { id: "" }).message).toBe(
      'id: got "", allowed is a string, at least 1 character, at most 64 characters',
    );
  });

  test("never shows more than a little of what came", () => {
    expect(fails(routes.create.input, { workdir: "x".repeat(10_000) }).message.length).toBeLessThan(250);
  });

  test("is not fooled by keys of Object.prototype", () => {
    expect(fails(routes.create.input, JSON.parse('{"__proto__": {"cpu": 2}}')).code).toBe("invalid_request");
    expect(fails(routes.create.input, JSON.parse('{"constructor": 1}')).message).toContain("not a known field");
  });

  test("checks metadata's bounds", () => {
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, "v"]));
    expect(fails(routes.create.input, { metadata: many }).code).toBe("invalid_request");
    expect(fails(routes.create.input, { metadata: { k: "v".repeat(1025) } }).code).toBe("invalid_request");
    expect(fails(routes.create.input, { metadata: { ["k".repeat(129)]: "v" } }).code).toBe("invalid_request");
    expect(parse(routes.create.input, { metadata: { "a\nb": "" } })).toBeObject();
  });

  test("checks the names of an environment", () => {
    for (const name of ["A=B", "", "A\0"]) {
      expect(fails(routes.create.input, { env: { [name]: "x" } }).code).toBe("invalid_request");
    }
    expect(parse(routes.create.input, { env: { "odd name": "=" } })).toBeObject();
  });
});

describe("WarrenError", () => {
  test("never serialises its cause or its stack", () => {
    const error = new WarrenError("driver_failed", "it broke", { cause: new Error("secret"), details: { id: "x" } });
    expect(JSON.parse(JSON.stringify(error))).toEqual({
      code: "driver_failed",
      message: "it broke",
      details: { id: "x" },
    });
    expect([error.fault, error.retry]).toEqual(["ours", true]);
    expect([isWarrenError(error), isWarrenError(error, "not_found"), isWarrenError(new Error())]).toEqual([
      true,
      false,
      false,
    ]);
  });
});

test("Move carries what a bill needs, and nothing that JSON loses", () => {
  const row = {
    ...{ sandbox: "s", account: "a", template: "t", cpu: 1, memoryMib: 1, sequence: 1, from: null, to: "creating" },
    ...{ event: "created", reason: null, monotonicMs: 1.5, wallMs: 2 },
  };
  expect(Value.Check(Move, JSON.parse(JSON.stringify(row)))).toBe(true);
  expect(Value.Check(Type.Composite([Move]), { ...row, sequence: 0 })).toBe(false);
});
