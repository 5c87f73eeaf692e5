/** What @pandastack/sdk sends is understood, and its answers have what it reads: the codecs beside that client's own words. */
import { describe, expect, test } from "bun:test";
import type { TSchema } from "@sinclair/typebox";
import { parse } from "../../src/contract/parse.ts";
import type { Route } from "../../src/contract/route.ts";
import { fromPath, fromQuery, placeOf } from "../../src/contract/split.ts";
import { type RowName, table } from "../../src/contract/table.ts";
import { sandboxesIn, successOf, wireOf } from "../../src/contract/wire/wire.ts";
import { isWarrenError } from "../../src/errors.ts";
import golden from "../golden/sdk.json";
import { sample } from "../harness/arbitrary.ts";

interface Sent {
  readonly row: string;
  readonly params?: Readonly<Record<string, string | undefined>>;
  readonly query?: string;
  readonly body?: unknown;
}

/** As a server reads a request. */
function read({ row, params = {}, query = "", body }: Sent): unknown {
  const { schema, decode } = wireOf(row as RowName).input;
  const whole = {
    ...(body as object | null),
    ...fromQuery(schema, new URLSearchParams(query)),
    ...fromPath(schema, params as Record<string, string>),
  };
  return decode(parse(schema, whole));
}

/** `children.0.id` of an answer. */
function at(value: unknown, path: string): unknown {
  return path.split(".").reduce((found, key) => (found as Record<string, unknown> | undefined)?.[key], value);
}

describe("@pandastack/sdk", () => {
  for (const call of golden.calls) {
    const name = call.row as RowName;
    const row: Route = table[name];

    test(`${call.method} means the same here`, () => {
      for (const key of Object.keys(call.body ?? {})) expect(placeOf(row, key)).toBe("body");
      if (call.body !== null) expect(["POST", "PUT", "PATCH"]).toContain(row.method);
      expect(read(call as Sent)).toEqual(call.means);
    });

    if (call.reads.length > 0) {
      test(`${call.method} finds what it reads in the answer`, () => {
        const { output } = wireOf(name);
        const returns = row.returns === "nothing" ? null : sample(filled(row.returns as TSchema));
        const answer = JSON.parse(JSON.stringify(output?.encode(returns, call.means)));
        for (const path of call.reads) expect({ path, is: at(answer, path) }).not.toEqual({ path, is: undefined });
      });
    }
  }

  for (const { row, field, says, ...rest } of golden.refused) {
    test(`${row} refuses ${JSON.stringify(rest.body ?? rest.query)} by ${field}`, () => {
      try {
        read({ row, ...rest } as Sent);
      } catch (error) {
        if (!isWarrenError(error, "invalid_request")) throw error;
        expect({ field: error.details["field"], message: error.message }).toEqual({
          field,
          message: expect.stringContaining(says),
        });
        expect(error.message).toStartWith(`${field}: `);
        return;
      }
      throw new Error("it was accepted");
    });
  }

  for (const { row, bodies, means } of golden.alike) {
    test(`${row} takes each way to say the same`, () => {
      for (const body of bodies) {
        const { schema, decode } = wireOf(row as RowName).input;
        const params = { id: "s1", context: 7 };
        const known = Object.entries(params).filter(([key]) => Object.hasOwn(schema.properties, key));
        const whole = { ...Object.fromEntries(known), ...body };
        expect(decode(parse(schema, whole))).toMatchObject(means);
      }
    });
  }

  test("hibernate and wake answer 200 with a state, pause and resume nothing", () => {
    expect(["hibernate", "wake", "pause", "resume"].map((name) => successOf(name as RowName))).toEqual([
      200, 200, 204, 204,
    ]);
    expect(wireOf("hibernate").output?.encode(undefined)).toEqual({ status: "hibernated" });
  });

  test("a file's mode is text, a context's id too", () => {
    const file = { name: "a", path: "/a", type: "directory", size: 0, mode: 0o755, uid: 0, gid: 0, mtime: 1.5 };
    expect(wireOf("stat").output?.encode(file)).toMatchObject({ mode: "0755", is_dir: true, mtime: 1.5 });
    expect(wireOf("listDirectory").output?.encode([file], { path: "/x" })).toMatchObject({ path: "/x" });
    const rest = { language: "python", state: "idle", cwd: "/", createdAt: "", exitCode: null, signal: null };
    expect(wireOf("createContext").output?.encode({ context: 7, ...rest })).toMatchObject({ id: "7" });
  });
});

/** Lists with one entry at least, so that there is something to look at. */
function filled(schema: TSchema): TSchema {
  const copy: TSchema = { ...schema };
  if (schema["items"] !== undefined) Object.assign(copy, { items: filled(schema["items"] as TSchema), minItems: 1 });
  if (schema["properties"] !== undefined) {
    const fields = Object.entries(schema["properties"] as Record<string, TSchema>);
    const whole = fields.map(([key, field]) => [key, filled(field)]);
    Object.assign(copy, { properties: Object.fromEntries(whole) });
  }
  return copy;
}

describe("sandboxesIn", () => {
  test("finds each in an answer, so that a server can say on which node it is", () => {
    const info = sample(table.get.returns);
    const fork = { parentId: "p", children: [info, info], pauseMs: 1, changedBytes: 2 };
    const answers = [
      wireOf("get").output?.encode(info),
      wireOf("list").output?.encode([info, info, info]),
      wireOf("fork").output?.encode(fork),
      wireOf("me").output?.encode(sample(table.me.returns)),
    ];
    expect(answers.map((answer) => [...sandboxesIn(answer)].length)).toEqual([1, 3, 2, 0]);
    for (const one of sandboxesIn(answers[2])) one["node"] = "there";
    expect(answers[2]).toMatchObject({ children: [{ node: "there" }, { node: "there" }] });
  });
});
