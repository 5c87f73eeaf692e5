/** Asserts, clock, ids, log and mailbox. */
import { describe, expect, test } from "bun:test";
import { assert, unreachable } from "../../src/base/assert.ts";
import { systemClock } from "../../src/base/clock.ts";
import { nonce, randomBytes, sandboxId, uuid } from "../../src/base/id.ts";
import { createLog } from "../../src/base/log.ts";
import { Mailbox } from "../../src/base/mailbox.ts";

test("assert throws with what it says", () => {
  expect(() => assert(true, "x")).not.toThrow();
  expect(() => assert(1 > 2, "one is more than two")).toThrow("assertion failed: one is more than two");
  expect(() => unreachable("x" as never)).toThrow("unreachable: x");
});

describe("systemClock", () => {
  test("never goes back, and runs what is due once", async () => {
    const { promise, resolve } = Promise.withResolvers<number>();
    const startMs = systemClock.monotonicMs();
    systemClock.after(5, () => resolve(systemClock.monotonicMs()));
    expect((await promise) - startMs).toBeGreaterThanOrEqual(4);
    expect(Math.abs(systemClock.wallMs() - Date.now())).toBeLessThan(1000);
  });

  test("does not fire early for delays beyond what the runtime's timers hold", async () => {
    let fired = false;
    const cancel = systemClock.after(2 ** 31 + 5, () => {
      fired = true;
    });
    await systemClock.sleep(10);
    expect(fired).toBe(false);
    cancel();
  });

  test("does not run what was cancelled", async () => {
    let runs = 0;
    const cancel = systemClock.after(1, () => {
      runs += 1;
    });
    cancel();
    await systemClock.sleep(10);
    expect(runs).toBe(0);
  });

  test("sleep ends with the signal's reason", async () => {
    const abort = new AbortController();
    const sleeping = systemClock.sleep(60_000, abort.signal);
    abort.abort(new Error("enough"));
    await expect(sleeping).rejects.toThrow("enough");
    await expect(systemClock.sleep(1, abort.signal)).rejects.toThrow("enough");
    await expect(systemClock.sleep(60_000, AbortSignal.abort(new Error("before")))).rejects.toThrow("before");
  });
});

test("ids are unique and in their alphabets", () => {
  const ids = Array.from({ length: 1000 }, sandboxId);
  expect(new Set(ids).size).toBe(1000);
  for (const id of ids) expect(id).toMatch(/^sb_[2-9a-hjkmnp-z]{16}$/);
  expect(nonce()).not.toBe(nonce());
  expect(randomBytes(33).length).toBe(33);
  expect(uuid()).toMatch(/^[0-9a-f-]{36}$/);
});

describe("createLog", () => {
  test("writes one line of JSON at or above its level", () => {
    const lines: string[] = [];
    const log = createLog("warn", (line) => lines.push(line));
    log.info("no");
    log.warn("yes", { n: 1 });
    log.error("worse");
    expect(lines.map((l) => JSON.parse(l))).toEqual([
      { level: "warn", says: "yes", n: 1 },
      { level: "error", says: "worse" },
    ]);
  });

  test("never lets a control character through", () => {
    const lines: string[] = [];
    const nasty = Array.from({ length: 0x2100 }, (_, i) => String.fromCharCode(i)).join("");
    createLog("info", (line) => lines.push(line)).info("x", { nasty });
    expect(lines[0]).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/);
    expect(JSON.parse(lines[0] ?? "").nasty).toBe(nasty);
  });
});

describe("Mailbox", () => {
  test("runs one job at a time per key, in order, and keys beside each other", async () => {
    const mailbox = new Mailbox<string>();
    const seen: string[] = [];
    const gate = Promise.withResolvers<void>();
    const slow = mailbox.run("a", async () => {
      await gate.promise;
      seen.push("a1");
    });
    const next = mailbox.run("a", () => seen.push("a2"));
    await mailbox.run("b", () => seen.push("b1"));
    expect(seen).toEqual(["b1"]);
    gate.resolve();
    await Promise.all([slow, next]);
    expect(seen).toEqual(["b1", "a1", "a2"]);
  });

  test("goes on after a job that throws, and forgets keys that are idle", async () => {
    const mailbox = new Mailbox<number>();
    const failed = mailbox.run(1, () => {
      throw new Error("no");
    });
    const after = mailbox.run(1, () => 2);
    await expect(failed).rejects.toThrow("no");
    expect(await after).toBe(2);
    await Promise.resolve();
    expect(mailbox.size).toBe(0);
  });
});
