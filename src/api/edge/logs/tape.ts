/**
 * The end of what one sandbox's commands have printed: bytes as they came, in blocks, bounded with all that keeps them. Lines are
 * made of them when somebody reads, so that printing costs a copy and nothing more.
 */
import { BOUNDS } from "../bounds.ts";

export type Channel = "stdout" | "stderr";

/** A block holds bytes of one source. Small pieces are gathered in one: the first of a source is small, as many commands say little. */
const FIRST_BLOCK_BYTES = 256;
const BLOCK_BYTES = 4096;
/** A block takes about so much beside its bytes. */
const BLOCK_COST = 256;

/** One stream of one command. */
export interface Source {
  readonly channel: Channel;
  /** Bytes were dropped up to somewhere within a line. */
  isCut: boolean;
}

interface Block {
  readonly source: Source;
  /** Its place among all blocks ever. */
  readonly number: number;
  readonly bytes: Uint8Array;
  used: number;
  /** Nothing of this source comes behind it. */
  isLast: boolean;
}

export class Tape {
  readonly #blocks: Block[] = [];
  readonly #readers = new Set<() => void>();
  #next = 0;
  /** What it takes in memory, about. */
  cost = 0;
  #isEnded = false;

  source(channel: Channel): Source {
    return { channel, isCut: false };
  }

  append(source: Source, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const last = this.#blocks.at(-1);
    const room = last?.source === source && !last.isLast ? last.bytes.length - last.used : 0;
    if (last !== undefined && room >= bytes.length) {
      last.bytes.set(bytes, last.used);
      last.used += bytes.length;
    } else {
      // What is larger than all that is kept does not need to be kept whole.
      const kept = bytes.subarray(-BOUNDS.tapeBytes / 2);
      const least = last?.source === source ? BLOCK_BYTES : FIRST_BLOCK_BYTES;
      const block = new Uint8Array(Math.max(kept.length, least));
      block.set(kept);
      if (kept.length < bytes.length) source.isCut = true;
      this.#push({ source, number: this.#next, bytes: block, used: kept.length, isLast: false });
    }
    this.#told();
  }

  /** The command has ended, or nobody hears it any more: an unfinished line is one. */
  end(source: Source): void {
    const last = this.#blocks.at(-1);
    if (last?.source === source) last.isLast = true;
    else if (this.#blocks.some((block) => block.source === source))
      // Readers may be past its last block.
      this.#push({ source, number: this.#next, bytes: new Uint8Array(0), used: 0, isLast: true });
    this.#told();
  }

  /** Nothing more is printed: readers end. */
  finish(): void {
    this.#isEnded = true;
    this.#told();
  }

  #push(block: Block): void {
    this.#blocks.push(block);
    this.#next += 1;
    this.cost += costOf(block);
    while (this.cost > BOUNDS.tapeBytes && this.#blocks.length > 1) this.#drop();
  }

  #drop(): void {
    const block = this.#blocks.shift();
    if (block === undefined) return;
    this.cost -= costOf(block);
    block.source.isCut = block.used > 0 ? block.bytes[block.used - 1] !== NEWLINE : block.source.isCut;
  }

  #told(): void {
    for (const wake of this.#readers) wake();
  }

  /**
   * Complete lines, those that are kept and, with `follow`, those that come, until it is finished or the signal. What a slow
   * reader has missed is told as one line in brackets.
   */
  async *lines(
    wanted: Channel | null,
    { follow, signal }: { readonly follow: boolean; readonly signal: AbortSignal },
  ): AsyncGenerator<string> {
    const reading = new Reading(wanted);
    const place: Place = { number: this.#blocks[0]?.number ?? this.#next, used: 0, isTold: false };
    const end = follow ? Infinity : this.#next;
    let wake: () => void = () => undefined;
    const call = (): void => wake();
    this.#readers.add(call);
    signal.addEventListener("abort", call, { once: true });
    try {
      while (!signal.aborted) {
        const piece = place.number < end ? this.#piece(place) : null;
        if (piece === "missed") yield* reading.missed();
        else if (piece !== null) yield* reading.take(piece.source, piece.bytes, piece.isLast);
        else if (!follow || this.#isEnded) break;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
      if (!signal.aborted) yield* reading.rest();
    } finally {
      this.#readers.delete(call);
      signal.removeEventListener("abort", call);
    }
  }

  /** What is next for a reader, who is moved behind it; null when there is nothing yet. */
  #piece(place: Place): Piece | "missed" | null {
    const oldest = this.#blocks[0]?.number ?? this.#next;
    if (place.number < oldest) {
      Object.assign(place, { number: oldest, used: 0, isTold: false });
      return "missed";
    }
    for (;;) {
      const block = this.#blocks[place.number - oldest];
      if (block === undefined) return null;
      const { source, isLast } = block;
      if (place.used < block.used || (isLast && !place.isTold)) {
        const bytes = block.bytes.subarray(place.used, block.used);
        place.used = block.used;
        place.isTold = isLast;
        return { source, bytes, isLast };
      }
      if (place.number + 1 >= this.#next) return null;
      Object.assign(place, { number: place.number + 1, used: 0, isTold: false });
    }
  }
}

/** Where a reader is. */
interface Place {
  number: number;
  /** Bytes of that block that it has. */
  used: number;
  /** It knows that the source ends there. */
  isTold: boolean;
}

interface Piece {
  readonly source: Source;
  readonly bytes: Uint8Array;
  readonly isLast: boolean;
}

function costOf({ bytes }: Block): number {
  return bytes.length + BLOCK_COST;
}

const NEWLINE = 0x0a;
const RETURN = 0x0d;

/** Lines under way of each source, for one reader. */
export class Reading {
  readonly #wanted: Channel | null;
  readonly #open = new Map<Source, Uint8Array[]>();
  readonly #skipping = new Set<Source>();
  readonly #seen = new Set<Source>();

  constructor(wanted: Channel | null) {
    this.#wanted = wanted;
  }

  /** Some blocks were dropped before they were read. */
  *missed(): Generator<string> {
    this.#open.clear();
    this.#skipping.clear();
    this.#seen.clear();
    yield "[some lines came faster than they were read, and are not here]";
  }

  /** Bytes of a source in order; the first that is seen of it may begin within a line that was dropped, and is skipped to its end. */
  *take(source: Source, bytes: Uint8Array, isLast: boolean): Generator<string> {
    if (this.#wanted !== null && source.channel !== this.#wanted) return;
    if (!this.#seen.has(source) && source.isCut) this.#skipping.add(source);
    this.#seen.add(source);
    let rest = bytes;
    for (let at = rest.indexOf(NEWLINE); at >= 0; at = rest.indexOf(NEWLINE)) {
      const line = this.#line(source, rest.subarray(0, at));
      rest = rest.subarray(at + 1);
      if (line !== null) yield line;
    }
    if (rest.length > 0) {
      const open = this.#open.get(source) ?? [];
      open.push(rest.slice());
      this.#open.set(source, open);
      if (open.length > 0 && open.reduce((sum, part) => sum + part.length, 0) > BOUNDS.lineBytes) {
        const line = this.#line(source, new Uint8Array(0));
        if (line !== null) yield line;
      }
    }
    if (!isLast) return;
    this.#seen.delete(source);
    const line = this.#open.has(source) ? this.#line(source, new Uint8Array(0)) : null;
    if (line !== null) yield line;
  }

  /** What is unfinished at the end. */
  *rest(): Generator<string> {
    for (const source of [...this.#open.keys()]) {
      const line = this.#line(source, new Uint8Array(0));
      if (line !== null) yield line;
    }
  }

  /** Null for what is only the end of one. */
  #line(source: Source, end: Uint8Array): string | null {
    const parts = this.#open.get(source) ?? [];
    this.#open.delete(source);
    if (this.#skipping.delete(source)) return null;
    const bytes = Buffer.concat([...parts, end]);
    const length = bytes.at(-1) === RETURN ? bytes.length - 1 : bytes.length;
    return bytes.toString("utf8", 0, length);
  }
}
