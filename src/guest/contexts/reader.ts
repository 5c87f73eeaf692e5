/**
 * A context's answers, read from its stdout: lines of JSON, of which only those of one cell matter here. All of it is hostile:
 * lines and sums are bounded, every field is checked, and a bundle of which a piece is missing is never shown as whole.
 */
import { type Static, Type } from "@sinclair/typebox";
import { TypeCompiler } from "@sinclair/typebox/compiler";
import type { CellEvent } from "../../contract/routes/contexts.ts";
import { LIMITS } from "../../limits.ts";
import { violation } from "../codec.ts";

const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Mime = Type.String({ minLength: 1, maxLength: 128 });
const c = Type.String({ maxLength: 64 });

const Line = Type.Union([
  Type.Object({ c, k: Type.Literal("begin"), n: Count }),
  Type.Object({ c, k: Type.Literal("out"), s: Type.Union([Type.Literal(1), Type.Literal(2)]), d: Type.String() }),
  Type.Object({ c, k: Type.Literal("mime"), t: Mime, o: Count, d: Type.String() }),
  Type.Object({ c, k: Type.Literal("show"), r: Type.Boolean(), z: Type.Record(Mime, Count, { maxProperties: 16 }) }),
  Type.Object({
    ...{ c, k: Type.Literal("error"), name: Type.String(), value: Type.String() },
    trace: Type.Array(Type.String(), { maxItems: 5000 }),
  }),
  Type.Object({
    ...{ c, k: Type.Literal("end"), n: Count, ms: Type.Number({ minimum: 0 }), cut: Type.Boolean() },
    status: Type.Union((["ok", "error", "timeout", "interrupted"] as const).map((status) => Type.Literal(status))),
  }),
  Type.Object({ c, k: Type.Literal("refused") }),
  Type.Object({ c, k: Type.Literal("state"), busy: Type.Boolean(), n: Count }),
]);
type Line = Static<typeof Line>;
const line = TypeCompiler.Compile(Line);

export type CellEnd = Extract<CellEvent, { readonly kind: "end" }>;
/** What a context says about one cell. */
export type Said =
  | Exclude<CellEvent, CellEnd>
  | { readonly kind: "begin" }
  | { readonly kind: "ended"; readonly end: Omit<CellEnd, "kind" | "exitCode" | "signal"> }
  | { readonly kind: "refused" }
  | { readonly kind: "state"; readonly busy: boolean };

const NEWLINE = 10;
/** What a cell's answers begin with, or all of them. */
const OPENING: ReadonlySet<Line["k"]> = new Set(["begin", "refused", "state"]);

export class CellReader {
  /** Bytes of this cell's lines so far. */
  readBytes = 0;
  /** Something of it was lost on the way. */
  lossy = false;
  /** It has been heard of. */
  begun = false;
  readonly cell: string;
  /** All that is said about it has been: what comes then is of other cells. */
  #done = false;
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  /** Until the next line begins: the beginning of this one is lost, or it is too long for one of ours. */
  #skipping = false;
  #pieces = new Map<string, string[]>();
  #lengths = new Map<string, number>();

  constructor(cell: string) {
    this.cell = cell;
  }

  /** Some output is no longer there. */
  gap(): void {
    this.#drop();
    this.#skipping = true;
    this.#forget();
    if (this.begun) this.lossy = true;
  }

  /** What these bytes complete. @throws {WarrenError} `guest_protocol` – within the cell, something that no context says */
  push(bytes: Uint8Array): Said[] {
    const said: Said[] = [];
    let at = 0;
    for (let end = bytes.indexOf(NEWLINE, at); end >= 0; end = bytes.indexOf(NEWLINE, at)) {
      this.#hold(bytes.subarray(at, end));
      at = end + 1;
      const whole = this.#skipping ? null : Buffer.concat(this.#held);
      this.#skipping = false;
      this.#drop();
      const one = whole === null ? null : this.#take(whole);
      if (one !== null) said.push(one);
    }
    this.#hold(bytes.subarray(at));
    return said;
  }

  #hold(bytes: Uint8Array): void {
    if (this.#skipping || bytes.length === 0) return;
    this.#heldBytes += bytes.length;
    if (this.#heldBytes <= LIMITS.contextLineBytes) {
      this.#held.push(bytes.slice());
      return;
    }
    if (this.begun && !this.#done) throw violation("a line of a context that is too long");
    this.#drop();
    this.#skipping = true;
  }

  #drop(): void {
    this.#held = [];
    this.#heldBytes = 0;
  }

  #take(bytes: Buffer): Said | null {
    if (this.#done) return null; // of the next cell, or of nobody
    const parsed = parsedLine(bytes);
    if (parsed === null) {
      if (this.begun) throw violation("a context does not speak as one");
      return null; // of some time before this cell
    }
    if (parsed.c !== this.cell) {
      if (this.begun && parsed.k === "begin") throw violation("a cell without an end");
      return null;
    }
    if (!this.begun && !OPENING.has(parsed.k)) this.lossy = true;
    this.begun = true;
    this.readBytes += bytes.length + 1;
    if (this.readBytes > LIMITS.cellBytes) throw violation("more from a cell than it may say");
    return this.#said(parsed);
  }

  #said(told: Line): Said | null {
    switch (told.k) {
      case "begin":
        return { kind: "begin" };
      case "out":
        return { kind: told.s === 1 ? "stdout" : "stderr", text: told.d };
      case "mime":
        this.#piece(told.t, told.o, told.d);
        return null;
      case "show":
        return this.#bundle(told.r, told.z);
      case "error":
        return { kind: "error", name: told.name, value: told.value, traceback: told.trace };
      case "end": {
        this.#done = true;
        const truncated = told.cut || this.lossy;
        return {
          kind: "ended",
          end: { status: told.status, executionCount: told.n, durationMs: told.ms, truncated },
        };
      }
      case "refused":
        this.#done = true;
        return { kind: "refused" };
      case "state":
        this.#done = true;
        return { kind: "state", busy: told.busy };
    }
  }

  #piece(mime: string, offset: number, text: string): void {
    const length = this.#lengths.get(mime) ?? 0;
    if (offset !== length) {
      if (!this.lossy) throw violation("a piece of a value out of turn");
      return; // its beginning is lost, and with it the bundle: see below
    }
    const pieces = this.#pieces.get(mime) ?? [];
    if (pieces.length === 0 && this.#pieces.size >= 16) throw violation("too many kinds of one value");
    pieces.push(text);
    this.#pieces.set(mime, pieces);
    this.#lengths.set(mime, length + text.length);
  }

  #bundle(result: boolean, sizes: Readonly<Record<string, number>>): Said | null {
    const lengths = this.#lengths;
    const data = Object.fromEntries([...this.#pieces].map(([mime, pieces]) => [mime, pieces.join("")]));
    this.#forget();
    const wanted = Object.entries(sizes);
    const whole = wanted.length >= lengths.size && wanted.every(([mime, size]) => (lengths.get(mime) ?? 0) === size);
    if (!whole && !this.lossy) throw violation("a value that is not whole");
    if (!whole) return null;
    for (const [mime] of wanted) data[mime] ??= "";
    return { kind: result ? "result" : "display", data };
  }

  #forget(): void {
    this.#pieces = new Map();
    this.#lengths = new Map();
  }
}

function parsedLine(bytes: Buffer): Line | null {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString("utf8"));
  } catch {
    return null; // the caller says what that means
  }
  return line.Check(value) ? value : null;
}
