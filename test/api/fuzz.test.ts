/** Requests nobody would write: whatever comes, the answer is one that the contract has, and never a failure of this server's. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { Asked } from "./rough/asked.ts";

const RUNS = Number(process.env["API_FUZZ_RUNS"] ?? 2000);

let scene: Asked;
beforeAll(async () => {
  scene = await Asked.open();
});
afterAll(() => scene[Symbol.asyncDispose]());

test("API answers whatever it is asked, and never with a failure of its own", async () => {
  const seen = await scene.all(RUNS);
  expect(Object.keys(seen)).toEqual(expect.arrayContaining(["200", "201", "204", "400", "404"]));
  console.log(`answers by status: ${JSON.stringify(seen)}`);
}, 3_600_000);

const segment = fc.oneof(
  fc.constantFrom(
    "v1",
    "sandboxes",
    "BOX",
    "fs",
    "exec",
    "snapshots",
    "volumes",
    "me",
    "tokens",
    "..",
    "%2e%2e",
    "%00",
    "%ff",
    "",
    "proxy",
    "80",
  ),
  fc.string({ maxLength: 8 }).map(encodeURIComponent),
);
const anything = fc.record({
  method: fc.constantFrom("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"),
  path: fc.array(segment, { maxLength: 6 }),
  query: fc.string({ maxLength: 20 }).map(encodeURIComponent),
});

test("API answers any path and method that it does not know", async () => {
  await fc.assert(
    fc.asyncProperty(anything, async ({ method, path, query }) => {
      const at = `/${path.map((part) => (part === "BOX" ? scene.box : part)).join("/")}?${query}`;
      const leave = new AbortController();
      const response = await scene.api.raw(method, at, { signal: leave.signal });
      leave.abort();
      expect({ method, at, status: response.status }).not.toMatchObject({ status: 500 });
      expect(response.headers.get("x-request-id")).toMatch(/^req_/);
    }),
    { numRuns: Math.ceil(RUNS / 4) },
  );
}, 3_600_000);
