/**
 * HarfBuzz, as two WebAssembly modules that need nothing from here but memory: one shapes text (which glyphs, where), the
 * other cuts a font down to the glyphs that are used. Pure calls: the same text and font give the same glyphs and bytes.
 */
import { readFileSync } from "node:fs";
import shapingPath from "harfbuzzjs/dist/harfbuzz.wasm" with { type: "file" };
import subsettingPath from "harfbuzzjs/dist/harfbuzz-subset.wasm" with { type: "file" };
import { assert } from "../../base/assert.ts";
import { tableOf } from "./sfnt.ts";

type Call = (...args: number[]) => number;

/** A module's functions by name, and its memory, which moves when it grows: never kept over a call. */
class Wasm {
  readonly #exports: WebAssembly.Exports;

  constructor(path: string) {
    // What the shaping module asks of its host: to grow, and three calls that it does not come to.
    const stop = (): never => {
      throw new Error("HarfBuzz gave up");
    };
    const imports = {
      env: {
        emscripten_resize_heap: (bytes: number) => this.#grow(bytes >>> 0),
        _abort_js: stop,
        _setitimer_js: () => 0,
        _emscripten_runtime_keepalive_clear: () => undefined,
      },
      wasi_snapshot_preview1: { proc_exit: stop },
    };
    this.#exports = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(path)), imports).exports;
    for (const start of ["__wasm_call_ctors", "_initialize"]) if (start in this.#exports) this.call(start);
  }

  #grow(bytes: number): number {
    const memory = this.#memory;
    try {
      memory.grow(Math.ceil(Math.max(0, bytes - memory.buffer.byteLength) / 65_536));
      return 1;
    } catch (cause) {
      if (cause instanceof RangeError) return 0; // the call that wanted it then says that it has no memory
      throw cause;
    }
  }

  get #memory(): WebAssembly.Memory {
    return this.#exports["memory"] as WebAssembly.Memory;
  }

  call(name: string, ...args: number[]): number {
    const found = this.#exports[name];
    assert(typeof found === "function", `HarfBuzz has ${name}`);
    return (found as Call)(...args);
  }

  /** A copy of bytes in its memory; the caller frees it. */
  put(bytes: Uint8Array): number {
    const at = this.call("malloc", Math.max(1, bytes.length)) >>> 0;
    assert(at !== 0, "HarfBuzz has memory for what it is given");
    new Uint8Array(this.#memory.buffer, at, bytes.length).set(bytes);
    return at;
  }

  view(at: number, bytes: number): DataView {
    return new DataView(this.#memory.buffer, at >>> 0, bytes);
  }

  take(at: number, bytes: number): Uint8Array {
    return new Uint8Array(this.#memory.buffer, at >>> 0, bytes).slice();
  }

  /** A word that a call writes a length to. */
  outWord<T>(use: (at: number) => T): { result: T; word: number } {
    const at = this.call("malloc", 4) >>> 0;
    try {
      const result = use(at);
      return { result, word: this.view(at, 4).getUint32(0, true) };
    } finally {
      this.call("free", at);
    }
  }
}

let shaping: Wasm | undefined;
let subsetting: Wasm | undefined;

const WRITABLE = 2; // HB_MEMORY_MODE_WRITABLE: it may use the copy that it was given
const LTR = 4; // hb_direction_t
const RTL = 5;
const GLYPH_BYTES = 20; // sizeof (hb_glyph_info_t), (hb_glyph_position_t)

export interface Glyph {
  readonly id: number;
  /** Where in the text (UTF-16 units) what it shows begins. */
  readonly cluster: number;
  /** In units of the font's em. */
  readonly advance: number;
  readonly dx: number;
  readonly dy: number;
}

/** A file of one or several fonts, for as long as the process lives: in HarfBuzz's memory alone, some have 20 MB. */
export class FontFile {
  readonly wasm: Wasm;
  readonly blob: number;
  readonly #at: number;
  readonly #length: number;

  constructor(sfnt: Uint8Array) {
    shaping ??= new Wasm(shapingPath);
    this.wasm = shaping;
    this.#at = this.wasm.put(sfnt);
    this.#length = sfnt.length;
    this.blob = this.wasm.call("hb_blob_create", this.#at, this.#length, WRITABLE, 0, 0);
  }

  /** Until the next call: memory moves when it grows. */
  peek(): Uint8Array {
    const { buffer, byteOffset, byteLength } = this.wasm.view(this.#at, this.#length);
    return new Uint8Array(buffer, byteOffset, byteLength);
  }
}

/** One font of a file. */
export class Face {
  readonly file: FontFile;
  readonly index: number;
  readonly unitsPerEm: number;
  readonly #wasm: Wasm;
  readonly #face: number;
  readonly #font: number;
  readonly #advances = new Map<number, number>();

  constructor(file: FontFile, index: number) {
    this.file = file;
    this.index = index;
    this.#wasm = file.wasm;
    this.#face = this.#wasm.call("hb_face_create", file.blob, index);
    this.#font = this.#wasm.call("hb_font_create", this.#face);
    this.unitsPerEm = this.#wasm.call("hb_face_get_upem", this.#face);
  }

  covers(codePoint: number): boolean {
    return (
      this.#wasm.outWord((at) => this.#wasm.call("hb_font_get_nominal_glyph", this.#font, codePoint, at)).result !== 0
    );
  }

  /** Of one glyph, in units of the em. */
  advance(glyph: number): number {
    const known = this.#advances.get(glyph);
    if (known !== undefined) return known;
    const found = this.#wasm.call("hb_font_get_glyph_h_advance", this.#font, glyph);
    this.#advances.set(glyph, found);
    return found;
  }

  /** Glyphs from left to right. */
  shape(text: string, rightToLeft: boolean): Glyph[] {
    const wasm = this.#wasm;
    const units = new Uint16Array(text.length);
    for (let i = 0; i < text.length; i += 1) units[i] = text.charCodeAt(i);
    const at = wasm.put(new Uint8Array(units.buffer));
    const buffer = wasm.call("hb_buffer_create");
    try {
      wasm.call("hb_buffer_add_utf16", buffer, at, text.length, 0, text.length);
      wasm.call("hb_buffer_set_direction", buffer, rightToLeft ? RTL : LTR);
      wasm.call("hb_buffer_guess_segment_properties", buffer);
      wasm.call("hb_shape", this.#font, buffer, 0, 0);
      const count = wasm.call("hb_buffer_get_length", buffer);
      const infos = wasm.view(wasm.call("hb_buffer_get_glyph_infos", buffer, 0), count * GLYPH_BYTES);
      const places = wasm.view(wasm.call("hb_buffer_get_glyph_positions", buffer, 0), count * GLYPH_BYTES);
      return Array.from({ length: count }, (_, i) => ({
        id: infos.getUint32(i * GLYPH_BYTES, true),
        cluster: infos.getUint32(i * GLYPH_BYTES + 8, true),
        advance: places.getInt32(i * GLYPH_BYTES, true),
        dx: places.getInt32(i * GLYPH_BYTES + 8, true),
        dy: places.getInt32(i * GLYPH_BYTES + 12, true),
      }));
    } finally {
      wasm.call("hb_buffer_destroy", buffer);
      wasm.call("free", at);
    }
  }
}

/** HB_SUBSET_FLAGS: no hinting, no glyphs that were not asked for by layout rules. */
const FLAGS = 0x1 | 0x200;
/** And glyph numbers as they were. */
const SAME_NUMBERS = 0x2;
const DROPPED_TABLES = 3; // HB_SUBSET_SETS_DROP_TABLE_TAG
/** What a PDF has no use for. */
const UNUSED = "GSUB GPOS GDEF BASE JSTF MATH name OS/2 cmap post STAT meta vhea vmtx VORG".split(" ");

function tag(name: string): number {
  return [...name].reduce((sum, char) => (sum << 8) | char.charCodeAt(0), 0);
}

/**
 * The font with these glyphs alone, each found by the number that it had: of outlines in `glyf` the glyph's, in a compact
 * font the character's (CID), which does not change whatever goes.
 */
export function subset({ file, index }: Face, glyphs: Iterable<number>): Uint8Array {
  subsetting ??= new Wasm(subsettingPath);
  const wasm = subsetting;
  const sfnt = file.peek();
  const compact = tableOf(sfnt, "CFF ", index) !== null;
  const copy = wasm.put(sfnt);
  const blob = wasm.call("hb_blob_create", copy, sfnt.length, WRITABLE, 0, 0);
  const face = wasm.call("hb_face_create", blob, index);
  const input = wasm.call("hb_subset_input_create_or_fail");
  const wanted = wasm.call("hb_subset_input_glyph_set", input);
  for (const glyph of glyphs) wasm.call("hb_set_add", wanted, glyph);
  const dropped = wasm.call("hb_subset_input_set", input, DROPPED_TABLES);
  for (const name of UNUSED) wasm.call("hb_set_add", dropped, tag(name.padEnd(4)));
  wasm.call("hb_subset_input_set_flags", input, compact ? FLAGS : FLAGS | SAME_NUMBERS);
  const cut = wasm.call("hb_subset_or_fail", face, input);
  assert(cut !== 0, "a font that shaped text can be cut down");
  const result = wasm.call("hb_face_reference_blob", cut);
  const { result: data, word: length } = wasm.outWord((at) => wasm.call("hb_blob_get_data", result, at));
  const bytes = wasm.take(data, length);
  for (const held of [result, blob]) wasm.call("hb_blob_destroy", held);
  for (const held of [cut, face]) wasm.call("hb_face_destroy", held);
  wasm.call("hb_subset_input_destroy", input);
  wasm.call("free", copy);
  return bytes;
}
