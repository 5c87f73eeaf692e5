/**
 * A file that grows at its end. Writes are in order, and what comes in while one is under way goes out as one; a failed
 * write fails everything after it, for a hole in the middle would be taken for the end.
 */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { WarrenError } from "../../errors.ts";

/** A failure to write `path`, in terms of what to do about it. */
export function cannotWrite(path: string, cause: unknown): WarrenError {
  const code = cause instanceof Error && "code" in cause ? cause.code : null;
  if (code === "ENOSPC" || code === "EDQUOT") {
    const says = `no disk space left for ${path}: free some, then run the same command again`;
    return new WarrenError("storage_exhausted", says, { cause });
  }
  const why = cause instanceof Error ? cause.message : String(cause);
  return new WarrenError("permission_denied", `${path} cannot be written: ${why}`, { cause });
}

const CHUNK_BYTES = 1024 * 1024;

export class AppendFile {
  readonly path: string;
  readonly #file: FileHandle;
  /** Where the next bytes will stand. */
  #end: number;
  #pending: Uint8Array[] = [];
  #writing: Promise<void> = Promise.resolve();
  #isWriting = false;
  #failure: WarrenError | null = null;

  private constructor(path: string, file: FileHandle, end: number) {
    this.path = path;
    this.#file = file;
    this.#end = end;
  }

  /** @throws {WarrenError} `permission_denied`, `storage_exhausted` */
  static async open(path: string): Promise<AppendFile> {
    try {
      const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o644);
      return new AppendFile(path, file, (await file.stat()).size);
    } catch (cause) {
      throw cannotWrite(path, cause);
    }
  }

  get end(): number {
    return this.#end;
  }

  /** Resolves once the bytes are written. @throws {WarrenError} `permission_denied`, `storage_exhausted` – this write or an earlier one failed. */
  async append(bytes: Uint8Array): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    this.#end += bytes.length;
    this.#pending.push(bytes);
    if (!this.#isWriting) {
      this.#isWriting = true;
      this.#writing = this.#drain();
    }
    await this.#writing;
    if (this.#failure !== null) throw this.#failure;
  }

  /** Everything appended so far is on disk after this. */
  async sync(): Promise<void> {
    await this.#writing;
    if (this.#failure !== null) throw this.#failure;
    await this.#file.datasync();
  }

  async read(at: number, length: number): Promise<Uint8Array> {
    const out = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await this.#file.read(out, done, length - done, at + done);
      if (bytesRead === 0) throw new WarrenError("internal", `${this.path} was cut by someone else`);
      done += bytesRead;
    }
    return out;
  }

  async *chunks(): AsyncGenerator<Uint8Array> {
    const buffer = new Uint8Array(CHUNK_BYTES);
    for (let at = 0; ; ) {
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) return;
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }

  /** Cuts off what follows the last newline: it was being written when the process or the machine died. */
  async cutTornLine(): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    let whole = 0;
    for (let end = this.#end; end > 0 && whole === 0; ) {
      const start = Math.max(0, end - buffer.length);
      const { bytesRead } = await this.#file.read(buffer, 0, end - start, start);
      whole = start + buffer.subarray(0, bytesRead).lastIndexOf(10) + 1;
      if (whole === start) whole = 0;
      end = start;
    }
    if (whole < this.#end) await this.truncate(whole);
  }

  async truncate(end: number): Promise<void> {
    await this.#file.truncate(end);
    this.#end = end;
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#file.close();
  }

  async #drain(): Promise<void> {
    try {
      let at = this.#end - this.#pending.reduce((sum, part) => sum + part.length, 0);
      while (this.#pending.length > 0) {
        const bytes = new Uint8Array(Buffer.concat(this.#pending));
        this.#pending = [];
        for (let done = 0; done < bytes.length; ) {
          done += (await this.#file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
        }
        at += bytes.length;
      }
    } catch (cause) {
      this.#failure = cannotWrite(this.path, cause);
      this.#pending = [];
    } finally {
      this.#isWriting = false;
    }
  }
}
