/** One watch of the fake guest: changes of its files that concern a path, in order, in a bounded queue. */
import type { ChangeRecord } from "../../guest/records.ts";
import { bytesOf, clean, type FakeChange, type FakeFiles } from "./files.ts";

const QUEUED_MAX = 10_000;
const OVERFLOW: ChangeRecord = { kind: "overflow", directory: false, path: new Uint8Array(0) };

export class FakeWatch {
  readonly #files: FakeFiles;
  readonly #root: string;
  readonly #directory: boolean;
  readonly #recursive: boolean;
  readonly #queue: ChangeRecord[] = [];
  #over = false;
  #changed = Promise.withResolvers<void>();
  readonly #hear = (change: FakeChange): void => this.#take(change);

  /** @throws {GuestError} there is nothing at this path */
  constructor(files: FakeFiles, path: string, recursive: boolean) {
    this.#files = files;
    this.#root = clean(path);
    this.#directory = files.stat(path).type === "directory";
    this.#recursive = recursive;
    files.watchers.add(this.#hear);
  }

  /** The next change; null once what is watched is gone. */
  async next(cancelled: Promise<never>): Promise<ChangeRecord | null> {
    for (;;) {
      const first = this.#queue.shift();
      if (first !== undefined) return first;
      if (this.#over) return null;
      await Promise.race([this.#changed.promise, cancelled]);
    }
  }

  end(): void {
    this.#files.watchers.delete(this.#hear);
  }

  #take({ kind, path, directory }: FakeChange): void {
    const below = this.#below(path);
    if (below === null || this.#over) return;
    this.#over = this.#directory && below === "" && kind === "removed";
    if (this.#queue.length >= QUEUED_MAX) this.#queue.splice(0, QUEUED_MAX, OVERFLOW);
    this.#queue.push({ kind, directory, path: bytesOf(below) });
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /** Null when it is of no concern. */
  #below(path: string): string | null {
    if (path === this.#root) return "";
    const prefix = this.#root === "/" ? "/" : `${this.#root}/`;
    if (!this.#directory || !path.startsWith(prefix)) return null;
    const below = path.slice(prefix.length);
    return this.#recursive || !below.includes("/") ? below : null;
  }
}
