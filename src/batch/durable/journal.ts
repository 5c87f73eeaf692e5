/**
 * The durable queue's memory: one append-only file of JSON lines beside the results. It holds every finished row, every
 * lifecycle move and the time at least once a second, so that a crash loses at most a second of either; a line that a crash
 * tore is cut off. Rows are found again by their place in the file: nothing here holds more than a row at a time.
 *
 *     {"kind":"batch","version":1,"settings":{…}}           first line
 *     {"kind":"run"}                                        a process began; clocks start anew
 *     {"kind":"move","move":{…}}  {"kind":"tick","ms":…}
 *     {"kind":"row","digest":"…","verdict":true,"row":{…}}  the row's own text ends the line
 */
import type { Clock } from "../../base/clock.ts";
import type { Move } from "../../contract/move.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import type { Bill } from "../bill.ts";
import { splitLines } from "../items/lines.ts";
import type { Row } from "../row.ts";
import { AppendFile } from "./append-file.ts";

/** Where a row stands in the journal, and what the summary needs of it. */
export interface Entry {
  /** Of the item as it was when it ran. */
  readonly digest: string;
  readonly verdict: boolean;
  readonly at: number;
  readonly length: number;
  readonly facts: RowFacts;
}

export interface RowFacts {
  readonly ok: boolean;
  readonly timedOut: boolean;
  readonly createMs: number;
  readonly execMs: number;
}

export function factsOf(row: Row): RowFacts {
  return { ok: row.ok, timedOut: row.timed_out, createMs: row.create_ms, execMs: row.exec_ms };
}

/** What may not change between two runs of one batch. */
export type BatchSettings = Readonly<Record<string, string | number | null>>;

const VERSION = 1;
const ROW_MARK = Buffer.from('"row":');
/** A row holds two streams; in the worst case a byte of one takes six in JSON and more in base64. */
const LINE_BYTES_MAX = 2 * LIMITS.outputBytesMax;

export class Journal implements AsyncDisposable {
  /** Lines that could not be read: their items run again. */
  damaged = 0;
  readonly #file: AppendFile;
  readonly #clock: Clock;
  readonly #entries = new Map<string, Entry>();
  #cancelTick: (() => void) | null = null;

  private constructor(file: AppendFile, clock: Clock) {
    this.#file = file;
    this.#clock = clock;
  }

  /**
   * Opens or makes a journal; the caller holds its lock. Its moves are counted into `bill`.
   * @throws {WarrenError} `already_exists` – not a journal of Warren's; `invalid_request` – of a batch with other
   * settings; `permission_denied`, `storage_exhausted`.
   */
  static async open(path: string, settings: BatchSettings, bill: Bill, clock: Clock): Promise<Journal> {
    const file = await AppendFile.open(path);
    const journal = new Journal(file, clock);
    try {
      await journal.#load(settings, bill);
      if (file.end === 0) await journal.#append({ kind: "batch", version: VERSION, settings });
      await journal.#append({ kind: "run" });
      journal.#tickLater();
      return journal;
    } catch (cause) {
      await file.close();
      throw cause;
    }
  }

  find(key: string): Entry | undefined {
    return this.#entries.get(key);
  }

  /** Items with a row. */
  get size(): number {
    return this.#entries.size;
  }

  /** Resolves when the row is written; it is on disk a second later at the latest. */
  async row(key: string, digest: string, verdict: boolean, row: Row): Promise<Entry> {
    const head = Buffer.from(`{"kind":"row","digest":${JSON.stringify(digest)},"verdict":${verdict},"row":`);
    const text = Buffer.from(JSON.stringify(row));
    const entry = { digest, verdict, at: this.#file.end + head.length, length: text.length, facts: factsOf(row) };
    await this.#file.append(Buffer.concat([head, text, Buffer.from("}\n")]));
    this.#entries.set(key, entry);
    return entry;
  }

  move(move: Move): void {
    this.#append({ kind: "move", move }).catch(() => undefined); // the next row, or `sync`, fails with it
  }

  /** The text of a row, as JSON. */
  read(entry: Pick<Entry, "at" | "length">): Promise<Uint8Array> {
    return this.#file.read(entry.at, entry.length);
  }

  /** Everything written is on disk after this. @throws {WarrenError} – a write had failed. */
  sync(): Promise<void> {
    return this.#file.sync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#cancelTick?.();
    this.#cancelTick = null;
    await this.#file.close();
  }

  #append(value: unknown): Promise<void> {
    return this.#file.append(Buffer.from(`${JSON.stringify(value)}\n`));
  }

  async #load(settings: BatchSettings, bill: Bill): Promise<void> {
    await this.#file.cutTornLine();
    let at = 0;
    for await (const line of splitLines(this.#file.chunks(), LINE_BYTES_MAX)) {
      if (line === null) throw foreign(this.#file.path);
      if (at === 0) this.#checkHeader(line, settings);
      else if (!this.#takeIn(line, at, bill)) this.damaged += 1;
      at += line.length + 1;
    }
    bill.endRun();
  }

  #checkHeader(line: Uint8Array, settings: BatchSettings): void {
    const header = parsed(line);
    if (header?.["kind"] !== "batch" || header["version"] !== VERSION) throw foreign(this.#file.path);
    const before = header["settings"] as BatchSettings;
    for (const [name, value] of Object.entries(settings)) {
      if (before[name] === value) continue;
      const says = `these results were begun with ${name} ${shown(before[name])}, this run says ${shown(value)}`;
      throw new WarrenError("invalid_request", `${says}: use the same, another --out, or --fresh to begin anew`);
    }
  }

  /** False for a line that is none of ours or damaged. */
  #takeIn(line: Uint8Array, at: number, bill: Bill): boolean {
    const value = parsed(line);
    if (value === null) return false;
    if (value["kind"] === "row") return this.#takeRow(line, at, value);
    if (value["kind"] === "move") bill.add(value["move"] as Move);
    else if (value["kind"] === "tick") bill.tick(Number(value["ms"]));
    else if (value["kind"] === "run") bill.endRun();
    else return false;
    return true;
  }

  #takeRow(line: Uint8Array, at: number, value: Readonly<Record<string, unknown>>): boolean {
    const row = value["row"] as Row | undefined;
    const start = Buffer.from(line.buffer, line.byteOffset, line.length).indexOf(ROW_MARK) + ROW_MARK.length;
    if (row?.id === undefined || start < ROW_MARK.length) return false;
    this.#entries.set(String(row.id), {
      digest: String(value["digest"]),
      verdict: value["verdict"] === true,
      at: at + start,
      length: line.length - 1 - start,
      facts: factsOf(row),
    });
    return true;
  }

  /** The time, and what was written since, reach the disk once a second. */
  #tickLater(): void {
    const tick = async () => {
      try {
        await this.#append({ kind: "tick", ms: this.#clock.monotonicMs() });
        await this.sync();
      } catch {
        return; // the next row fails with it
      }
      if (this.#cancelTick !== null) this.#tickLater();
    };
    this.#cancelTick = this.#clock.after(LIMITS.journalSyncMs, () => void tick(), { background: true });
  }
}

function parsed(line: Uint8Array): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(line));
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null; // damaged: its item runs again
  }
}

function foreign(path: string): WarrenError {
  const says = `${path} is not a journal of this version of Warren: move it away, or choose another --out`;
  return new WarrenError("already_exists", says);
}

function shown(value: unknown): string {
  return value === null || value === undefined ? "(default)" : JSON.stringify(value);
}
