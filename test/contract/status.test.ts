/** Errors over HTTP: a status for each code, and back from the answer to the error. */
import { describe, expect, test } from "bun:test";
import { Value } from "@sinclair/typebox/value";
import fc from "fast-check";
import { ErrorBody, ExecTimeoutBody, errorBody, errorOf, STATUS, statusOf } from "../../src/contract/status.ts";
import { type RowName, table } from "../../src/contract/table.ts";
import { namedInContract, namedOnWire } from "../../src/contract/wire/fields.ts";
import { ERRORS, type ErrorCode, WarrenError } from "../../src/errors.ts";

const codes = Object.keys(ERRORS) as ErrorCode[];

describe("statusOf", () => {
  test("blames the caller for what is the caller's fault, and nobody else", () => {
    for (const code of codes) {
      const { fault } = ERRORS[code];
      if (fault === "caller" || fault === "state")
        expect({ code, status: STATUS[code] < 500 }).toEqual({ code, status: true });
      if (fault === "ours" || fault === "capacity")
        expect({ code, status: STATUS[code] >= 500 }).toEqual({ code, status: true });
    }
  });

  test("is 404 for what the path names and 400 for what a body does", () => {
    expect(statusOf("not_found", table.get)).toBe(404);
    expect(statusOf("template_not_found", table.create)).toBe(400);
    expect(statusOf("not_found", table.create, { field: "snapshot" })).toBe(400);
    expect(statusOf("not_found", table.attachVolume)).toBe(404);
    expect(statusOf("not_found", table.attachVolume, { field: "name" })).toBe(400);
    expect(statusOf("not_found", table.detachVolume, { field: "name" })).toBe(404);
    expect(statusOf("template_not_found", table.bake, { field: "name" })).toBe(404);
    expect(statusOf("file_not_found", table.stat)).toBe(404);
    expect(statusOf("not_found")).toBe(404);
  });
});

describe("errorBody and errorOf", () => {
  const details = fc.dictionary(fc.constantFrom("field", "got", "maxBytes", "id"), fc.string());

  test("give back the error, whatever its code", () => {
    fc.assert(
      fc.property(fc.constantFrom(...codes), fc.string({ minLength: 1 }), details, (code, message, facts) => {
        const error = new WarrenError(code, message, {
          details: { ...facts, field: "memoryMb" },
          cause: "a secret of ours",
        });
        const body = JSON.parse(JSON.stringify(errorBody(error, "r-1"))) as unknown;
        expect(Value.Check(ErrorBody, body)).toBe(true);
        expect(JSON.stringify(body)).not.toContain("a secret of ours");
        const back = errorOf(STATUS[code], body);
        expect([back.code, back.message]).toEqual([code, message]);
        if (code === "exec_timeout") return;
        const known = error.fault === "ours" ? {} : error.details;
        expect(back.details).toEqual({ ...known, requestId: "r-1" });
      }),
    );
  });

  test("tell what a command said until its time was over, beside the error", () => {
    const facts = {
      stdout: "so far",
      stderr: "",
      exitCode: null,
      signal: "SIGKILL",
      durationMs: 5001,
      truncated: false,
    };
    const body = errorBody(new WarrenError("exec_timeout", "exec timeout after 5s", { details: facts }), "r-1");
    expect(body).toMatchObject({
      error: "exec timeout after 5s",
      timed_out: true,
      stdout: "so far",
      duration_ms: 5001,
    });
    expect(Value.Check(ExecTimeoutBody, body)).toBe(true);
    expect(errorOf(504, body).details).toMatchObject({ ...facts, timedOut: true });
  });

  test("keep what is ours to ourselves: a driver's details are for the log", () => {
    const error = new WarrenError("driver_failed", "the VMM ended", { details: { stderr: "host paths" } });
    expect(errorBody(error, "r-1")).toEqual({ error: "the VMM ended", code: "driver_failed", request_id: "r-1" });
  });

  test("understand answers of proxies and of newer servers", () => {
    expect(errorOf(502, "<html>Bad gateway</html>")).toMatchObject({
      code: "internal",
      message: "<html>Bad gateway</html>",
    });
    expect(errorOf(404, { error: "gone", code: "from_the_future" })).toMatchObject({
      code: "not_found",
      message: "gone",
    });
    expect(errorOf(429, null)).toMatchObject({ code: "rate_limited" });
    expect(errorOf(503, {})).toMatchObject({ code: "capacity_exhausted" });
    expect(errorOf(418, { code: "toString" })).toMatchObject({ code: "invalid_request" });
  });
});

describe("namedOnWire and namedInContract", () => {
  const about = (field: string) => new WarrenError("invalid_request", `${field}: no`, { details: { field, got: 1 } });
  const cases: [RowName, string, string][] = [
    ["create", "ttlSeconds", "ttl_seconds"],
    ["create", "snapshot", "from_snapshot"],
    ["create", "volumes.0.readOnly", "volumes.0.read_only"],
    ["create", "metadata.someKey", "metadata.someKey"],
    ["create", "metadata.some_key", "metadata.some_key"],
    ["list", "after", "cursor"],
    ["promote", "treeId", "tree_id"],
    ["exec", "argv", "args"],
    ["get", "candidates", "candidates"],
  ];
  for (const [row, contract, wire] of cases) {
    test(`know ${contract} of ${row} as ${wire}`, () => {
      const on = namedOnWire(row, about(contract));
      expect([on.message, on.details]).toEqual([`${wire}: no`, { field: wire, got: 1 }]);
      const back = namedInContract(row, on);
      expect([back.message, back.details]).toEqual([`${contract}: no`, { field: contract, got: 1 }]);
    });
  }

  test("say where a create named what is not there", () => {
    const template = namedOnWire("create", new WarrenError("template_not_found", "there is no template x"));
    expect([template.message, template.details]).toEqual(["template: there is no template x", { field: "template" }]);
    const about = { details: { field: "name", name: "x" } };
    const volume = namedOnWire("create", new WarrenError("not_found", "there is no volume x", about));
    expect([volume.message, volume.details]).toEqual([
      "volumes: there is no volume x",
      { field: "volumes", name: "x" },
    ]);
    const elsewhere = new WarrenError("not_found", "there is no volume x", about);
    expect(namedOnWire("attachVolume", elsewhere)).toBe(elsewhere);
  });
});
