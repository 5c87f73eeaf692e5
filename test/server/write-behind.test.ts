/** What a server writes after the answer, over a database that fails as it likes: nothing lost, nothing out of order. */
import { describe, expect, test } from "bun:test";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import type { Beat } from "../../src/api/billing.ts";
import { createLog } from "../../src/base/log.ts";
import type { Move } from "../../src/contract/move.ts";
import type { SandboxInfo } from "../../src/contract/routes/sandboxes.ts";
import type { Stored } from "../../src/contract/stored.ts";
import { WarrenError } from "../../src/errors.ts";
import { LIMITS } from "../../src/limits.ts";
import { openJournal, parseJournal } from "../../src/server/time/journal.ts";
import { type Books, WriteBehind } from "../../src/server/write-behind.ts";
import { FakeClock, settle } from "../harness/clock.ts";

function move(sandbox: string, sequence: number, account = "a"): Move {
  const size = { template: "base", cpu: 1, memoryMib: 512, monotonicMs: sequence, wallMs: sequence };
  return { sandbox, account, sequence, from: "running", to: "paused", event: "paused", reason: null, ...size };
}

/** A database that keeps what it was given, fails when `fails` says so, and sometimes after it has written. */
class FakeBooks implements Books {
  readonly moves: Move[] = [];
  readonly rows: Stored[] = [];
  /** Proofs of life, and how many moves were written before them. */
  readonly beats: { readonly beats: readonly Beat[]; readonly after: number }[] = [];
  readonly infos = new Map<string, number>();
  calls = 0;
  fails: (call: number) => "before" | "after" | null = () => null;
  refuses: (move: Move) => boolean = () => false;

  async #through(write: () => void): Promise<void> {
    this.calls += 1;
    const how = this.fails(this.calls);
    if (how !== "before") write();
    if (how !== null) throw new WarrenError("store_unavailable", "the database is away");
  }

  async record(moves: readonly Move[]): Promise<void> {
    if (moves.some((one) => this.refuses(one))) throw new Error("violates a constraint");
    await this.#through(() => this.moves.push(...moves));
  }

  async describe(_: string, infos: readonly SandboxInfo[]): Promise<void> {
    await this.#through(() => {
      for (const info of infos) this.infos.set(info.id, info.createMs);
    });
  }

  async heartbeat(beats: readonly Beat[]): Promise<void> {
    await this.#through(() => this.beats.push({ beats, after: this.moves.length }));
  }

  async recordStored(rows: readonly Stored[]): Promise<void> {
    await this.#through(() => this.rows.push(...rows));
  }

  /** As a store counts them: each once. */
  distinct(sandbox: string): number[] {
    const own = this.moves.filter((one) => one.sandbox === sandbox).map(({ sequence }) => sequence);
    return [...new Set(own)];
  }
}

interface Bench {
  readonly books: FakeBooks;
  readonly clock: FakeClock;
  readonly behind: WriteBehind;
  readonly errors: string[];
  /** What a sandbox is now, as a number. */
  readonly now: Map<string, number>;
}

function bench(limit?: number): Bench {
  const [books, clock, errors, now] = [new FakeBooks(), new FakeClock(), [] as string[], new Map<string, number>()];
  const log = createLog("error", (line) => errors.push(line));
  const infoOf = async (_: string, id: string) => ({ id, createMs: now.get(id) ?? 0 }) as SandboxInfo;
  const behind = new WriteBehind({ books, clock, log, infoOf, ...(limit === undefined ? {} : { limit }) });
  return { books, clock, behind, errors, now };
}

describe("WriteBehind", () => {
  test("WriteBehind writes moves of many creates in few statements", async () => {
    const { books, clock, behind } = bench();
    for (let i = 0; i < 100; i++) behind.moved(move(`sb_${i}`, 1));
    await clock.advance(LIMITS.writeBehindCalmMs - 1);
    expect(books.calls).toBe(0);
    await clock.advance(1);
    expect([books.moves.length, books.infos.size, books.calls]).toEqual([100, 100, 2]);
    expect(behind.waiting).toBe(0);
  });

  test("WriteBehind loses nothing and keeps each sandbox's order, however the database fails", async () => {
    const failures = fc.array(fc.constantFrom("before", "after", null), { maxLength: 12 });
    const steps = fc.array(fc.tuple(fc.nat(4), fc.nat(400)), { minLength: 1, maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(failures, steps, async (fails, given) => {
        const { books, clock, behind, now } = bench();
        books.fails = (call) => fails[call - 1] ?? null;
        const sequences = new Map<string, number>();
        for (const [which, afterMs] of given) {
          const id = `sb_${which}`;
          const sequence = (sequences.get(id) ?? 0) + 1;
          sequences.set(id, sequence);
          now.set(id, sequence);
          behind.moved(move(id, sequence, `account${which % 2}`));
          behind.stored({ kind: "volume", id, account: "a", sizeBytes: sequence, monotonicMs: sequence, wallMs: 0 });
          await clock.advance(afterMs);
        }
        await clock.advance(20 * LIMITS.writeBehindRetryMsMax);
        expect(behind.waiting).toBe(0);
        for (const [id, last] of sequences) {
          expect(books.distinct(id)).toEqual(Array.from({ length: last }, (_, i) => i + 1));
          expect(books.infos.get(id)).toBe(last); // the newest is what stays
          const stored = new Set(books.rows.filter((row) => row.id === id).map(({ sizeBytes }) => sizeBytes));
          expect(stored.size).toBe(last);
        }
        expect(behind.lost).toBe(0);
      }),
      { numRuns: 100 },
    );
  });

  test("WriteBehind writes a row twice only when the database failed after it had written", async () => {
    const { books, clock, behind } = bench();
    books.fails = (call) => (call % 2 === 1 && call < 8 ? "before" : null);
    for (let i = 1; i <= 30; i++) behind.moved(move("sb_1", i));
    await clock.advance(60_000);
    expect(books.moves.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 30 }, (_, i) => i + 1));
  });

  test("WriteBehind gives up the one row that the database refuses, says so, and writes its neighbours", async () => {
    const { books, clock, behind, errors } = bench();
    books.refuses = ({ sandbox }) => sandbox === "sb_7";
    for (let i = 0; i < 20; i++) behind.moved(move(`sb_${i}`, 1));
    await clock.advance(1000);
    expect(books.moves.length).toBe(19);
    expect([behind.lost, behind.waiting]).toEqual([1, 0]);
    expect(errors.join()).toContain("sb_7");
  });

  test("WriteBehind holds a bounded number of rows, and says loudly what it gives up", async () => {
    const { books, clock, behind, errors } = bench(10);
    books.fails = () => "before";
    for (let i = 1; i <= 12; i++) behind.moved(move("sb_1", i));
    expect([behind.lost, errors.length]).toEqual([2, 2]);
    await clock.advance(1000);
    expect(behind.awayMs).toBeGreaterThan(500);
    books.fails = () => null;
    await clock.advance(LIMITS.writeBehindRetryMsMax);
    expect([books.distinct("sb_1").length, behind.awayMs]).toEqual([10, 0]);
  });

  test("WriteBehind drains at the end without waiting for its pauses, and tells what it could not write", async () => {
    const { books, clock, behind } = bench();
    let away = true;
    books.fails = () => (away ? "before" : null);
    behind.moved(move("sb_1", 1));
    await clock.advance(30_000); // it pauses for seconds by now
    away = false;
    const drained = behind.drain(1000);
    await clock.advance(LIMITS.writeBehindMs);
    expect(await drained).toBe(0);
    expect(books.moves.length).toBe(1);

    const other = bench();
    other.books.fails = () => "before";
    other.behind.moved(move("sb_2", 1));
    const late = other.behind.drain(1000);
    await other.clock.advance(1000);
    expect(await late).toBe(2); // its move, and what it is
    expect(other.errors.at(-1)).toContain("rows were not written");
    await settle();
  });

  test("WriteBehind describes what changed without a move", async () => {
    const { books, clock, behind, now } = bench();
    now.set("sb_1", 5);
    behind.touched("a", "sb_1");
    await clock.advance(LIMITS.writeBehindCalmMs);
    expect(books.infos.get("sb_1")).toBe(5);
  });

  test("WriteBehind writes soon what frees a place, and what came before it with it", async () => {
    const { books, clock, behind } = bench();
    behind.moved(move("sb_1", 1));
    await clock.advance(5);
    behind.moved({ ...move("sb_1", 2), to: "stopping" });
    await clock.advance(LIMITS.writeBehindMs);
    expect(books.distinct("sb_1")).toEqual([1, 2]);
    behind.moved(move("sb_2", 1));
    await clock.advance(LIMITS.writeBehindMs);
    expect(books.distinct("sb_2")).toEqual([]); // it is calm again
  });

  test("WriteBehind writes proofs of life after every move that was told before them, and the latest alone", async () => {
    const { books, clock, behind } = bench();
    let away = true;
    books.fails = () => (away ? "before" : null);
    const beats = (seenMs: number) => [{ sandbox: "sb_1", seenMs, cpuUsedMs: null, egressBytes: null }];
    behind.moved(move("sb_1", 1));
    behind.beaten(beats(5));
    await clock.advance(1000);
    behind.moved(move("sb_1", 2));
    behind.beaten(beats(10));
    away = false;
    await clock.advance(LIMITS.writeBehindRetryMsMax);
    expect(books.beats.map(({ beats: [beat], after }) => [beat?.seenMs, after])).toEqual([[10, 2]]);
    expect(behind.waiting).toBe(0);
  });

  test("WriteBehind empties its journal once all is written, and replays what an earlier one could not", async () => {
    const dir = mkdtempSync(join(tmpdir(), "journal-"));
    const path = join(dir, "moves.ndjson");
    const log = createLog("silent");
    const infoOf = async () => null;
    const clock = new FakeClock();
    const [first, second] = [new FakeBooks(), new FakeBooks()];
    first.fails = () => "before";
    {
      using journal = openJournal(path, log);
      const behind = new WriteBehind({ books: first, infoOf, clock, log, journal });
      for (const sequence of [1, 2]) behind.moved(move("sb_1", sequence));
      behind.stored({ kind: "volume", id: "v", account: "a", sizeBytes: 5, monotonicMs: 1, wallMs: 1 });
      await clock.advance(1000); // and it is killed
    }
    appendFileSync(path, '{"sandbox":"sb_'); // as it wrote another line
    using journal = openJournal(path, log);
    const behind = new WriteBehind({ books: second, infoOf, clock, log, journal });
    await behind.replay();
    expect(second.moves.map(({ sequence }) => sequence)).toEqual([1, 2]);
    expect(second.rows).toHaveLength(1);
    expect(statSync(path).size).toBe(0);
    behind.moved(move("sb_1", 3));
    expect(parseJournal(readFileSync(path, "utf8")).moves).toHaveLength(1);
    await clock.advance(1000);
    expect(statSync(path).size).toBe(0);
    rmSync(dir, { recursive: true });
  });
});
