/** Pieces of the API by themselves: ranges, the audit while the database is away, inboxes, tokens. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Audit } from "../../src/api/access/audit.ts";
import { hashOf, isToken, mintToken, prefixOf } from "../../src/api/access/tokens.ts";
import { BOUNDS } from "../../src/api/bounds.ts";
import { Inbox } from "../../src/api/sockets/inbox.ts";
import { Waiting } from "../../src/api/streams/budget.ts";
import { rangeOf } from "../../src/api/streams/range.ts";
import { requestHashOf } from "../../src/api/tenancy/idempotency.ts";
import { createLog } from "../../src/base/log.ts";
import type { AuditEntry } from "../../src/contract/routes/api/accounts.ts";
import { WarrenError } from "../../src/errors.ts";
import { FakeClock } from "../harness/clock.ts";
import { MemoryStore } from "../harness/stores/memory-store.ts";

test("rangeOf is within the file for any header, or refuses", () => {
  const number = fc.option(fc.nat({ max: 40 }), { nil: "" });
  fc.assert(
    fc.property(number, number, fc.nat({ max: 30 }), (from, to, size) => {
      const whole = Array.from({ length: size }, (_, i) => i);
      const [first, last] = [from === "" ? null : Number(from), to === "" ? null : Number(to)];
      const wanted = whole.filter((at) =>
        first === null ? at >= size - (last ?? 0) : at >= first && at <= (last ?? size),
      );
      const isRange = (first !== null || last !== null) && !(first !== null && last !== null && last < first);
      const range = () => rangeOf(`bytes=${from}-${to}`, size);
      if (!isRange) return expect(range()).toBeNull();
      if (wanted.length === 0) return expect(range).toThrow(WarrenError);
      expect(range()).toEqual({ first: wanted[0] ?? 0, last: wanted.at(-1) ?? 0 });
    }),
  );
  for (const other of [null, "", "bytes", "bytes=a-b", "items=0-1", "bytes=0-1,3-4", `bytes=${"9".repeat(30)}-`])
    expect(rangeOf(other, 10)).toBeNull();
});

const entry = (n: number): AuditEntry => ({
  ...{ at: new Date(n).toISOString(), account: "acme", actor: "wrn_x", action: "create", target: null },
  ...{ status: 201, requestId: `req_${n}` },
});

test("Audit waits for the database, in order, and is bounded", async () => {
  const [store, clock, lines] = [new MemoryStore(), new FakeClock(), [] as string[]];
  const audit = new Audit(
    store,
    clock,
    createLog("warn", (line) => lines.push(line)),
  );
  store.away = new WarrenError("store_unavailable", "away");
  for (let n = 0; n < BOUNDS.behindRows + 5; n++) audit.add(entry(n));
  await clock.advance(BOUNDS.behindMs);
  expect(lines.at(-1)).toContain("the audit waits for the database");
  store.away = null;
  await clock.advance(BOUNDS.behindMs);
  const rows = await store.auditLog("acme", { limit: 100_000, before: null });
  expect(rows).toHaveLength(BOUNDS.behindRows);
  expect([rows.at(-1)?.requestId, rows[0]?.requestId]).toEqual(["req_5", `req_${BOUNDS.behindRows + 4}`]);
  expect(lines.filter((line) => line.includes("dropped"))).toHaveLength(5);
  store.away = new WarrenError("store_unavailable", "away");
  audit.add(entry(1));
  await audit[Symbol.asyncDispose]();
  expect(lines.at(-1)).toContain("were not written");
});

test("Inbox gives what came in order, in one piece, and refuses too much", async () => {
  const inbox = new Inbox(new Waiting().charge("acme"));
  const read = inbox[Symbol.asyncIterator]();
  const [a, b] = [new Uint8Array([1, 2]), new Uint8Array([3])];
  inbox.push(a);
  inbox.push(b);
  expect([...((await read.next()).value as Uint8Array)]).toEqual([1, 2, 3]);
  const chunk = new Uint8Array(BOUNDS.socketFrameBytes);
  for (let bytes = 0; bytes + chunk.length <= BOUNDS.socketInboxBytes; bytes += chunk.length) inbox.push(chunk);
  expect(() => inbox.push(b)).toThrow(WarrenError);
  inbox.end();
  expect(((await read.next()).value as Uint8Array).length).toBe(BOUNDS.socketInboxBytes);
  expect((await read.next()).done).toBe(true);
  const failed = new Inbox(new Waiting().charge("acme"));
  failed.push(a);
  failed.fail(new Error("it broke"));
  await expect(failed[Symbol.asyncIterator]().next()).rejects.toThrow("it broke");
});

test("Waiting counts what each account and all have waiting, with what it costs to keep, to its bounds", () => {
  const waiting = new Waiting();
  const each = BOUNDS.waitingBytesPerAccount;
  const charge = waiting.charge("a");
  let pieces = 0;
  while (charge.take(1)) pieces += 1;
  expect(pieces).toBe(Math.floor(each / (1 + BOUNDS.waitingPieceBytes)));
  charge.release(1);
  expect([charge.take(1), charge.take(1)]).toEqual([true, false]);
  expect(waiting.charge("a").level(BOUNDS.waitingPieceBytes + 1)).toBe(false);
  const others = Array.from({ length: BOUNDS.waitingBytesPerServer / each }, (_, n) => waiting.charge(`b${n}`));
  const before = waiting.bytes;
  expect(others.map((other) => other.level(each))).toEqual([true, true, true, false]);
  charge.close();
  charge.close();
  expect([charge.take(1), waiting.bytes]).toEqual([true, 3 * each]);
  for (const other of others) other.close();
  expect([before > 0, waiting.bytes]).toEqual([true, 0]);
});

test("Inbox counts what it has given out until more is asked for, and nothing once it is dropped", async () => {
  const waiting = new Waiting();
  const inbox = new Inbox(waiting.charge("acme"));
  const piece = 10 + BOUNDS.waitingPieceBytes;
  for (let n = 0; n < 3; n++) inbox.push(new Uint8Array(10));
  const read = inbox[Symbol.asyncIterator]();
  expect([((await read.next()).value as Uint8Array).length, waiting.bytes]).toEqual([30, 3 * piece]);
  inbox.push(new Uint8Array(10));
  expect([(await read.next()).done, waiting.bytes]).toEqual([false, piece]);
  inbox.drop();
  inbox.push(new Uint8Array(10));
  expect([(await read.next()).done, waiting.bytes]).toEqual([true, 0]);
  const other = waiting.charge("acme");
  other.level(BOUNDS.waitingBytesPerAccount);
  expect(() => new Inbox(waiting.charge("acme")).push(new Uint8Array(1))).toThrow("all WebSockets together");
});

test("Tokens are 256 bits behind their name, and none is like another", () => {
  const many = new Set(Array.from({ length: 1000 }, mintToken));
  expect(many.size).toBe(1000);
  for (const token of many)
    expect([isToken(token), token.length, prefixOf(token)]).toEqual([true, 47, token.slice(0, 12)]);
  expect(hashOf("wrn_a")).toMatch(/^[0-9a-f]{64}$/);
  for (const bad of ["", "wrn_", `wrn_${"a".repeat(44)}`, `wrn_${"a".repeat(42)}=`, `xrn_${"a".repeat(43)}`])
    expect(isToken(bad)).toBe(false);
});

test("A request's hash is the same whatever the order of its fields, and another for anything else", () => {
  const value = fc.jsonValue({ maxDepth: 3 });
  fc.assert(
    fc.property(fc.dictionary(fc.string(), value), (fields) => {
      const turned = Object.fromEntries(Object.entries(fields).reverse());
      expect(requestHashOf(turned)).toBe(requestHashOf(fields));
      expect(requestHashOf({ ...fields, more: 1.5 })).not.toBe(requestHashOf({ ...fields, more: 2.5 }));
    }),
  );
  expect(requestHashOf({ a: ["x", "y"] })).not.toBe(requestHashOf({ a: ["y", "x"] }));
  expect(requestHashOf({ a: { b: 1 } })).not.toBe(requestHashOf({ a: [["b", 1]] }));
});
