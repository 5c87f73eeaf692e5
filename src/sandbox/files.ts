/** Files of a sandbox, by absolute guest paths. */
import type { Body, CallOptions } from "../contract/route.ts";
import type { FileInfo, WatchEvent } from "../contract/routes/files.ts";
import type { SandboxHost } from "../contract/routes.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { joined } from "./collect.ts";

export interface ReadOptions extends CallOptions {
  /** First byte; default 0. */
  readonly offset?: number;
  /** At most so many bytes; default all. */
  readonly length?: number;
}

export interface ModeOptions extends CallOptions {
  /** Permission bits, for instance 0o600. */
  readonly mode?: number;
}

export class SandboxFiles {
  readonly #host: SandboxHost;
  readonly #id: string;

  constructor(host: SandboxHost, id: string) {
    this.#host = host;
    this.#id = id;
  }

  /**
   * The exact bytes of a regular file, or of a range of it.
   * @throws {WarrenError} `file_not_found`; `file_error` – not a regular file, or over `LIMITS.outputBytesMax`.
   */
  async read(path: string, options: ReadOptions = {}): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    let bytes = 0;
    for await (const part of await this.stream(path, options)) {
      bytes += part.length;
      if (bytes > LIMITS.outputBytesMax) {
        throw new WarrenError("file_error", `${path} is larger than ${LIMITS.outputBytesMax} bytes: stream it`);
      }
      parts.push(part);
    }
    return joined(parts);
  }

  /** As UTF-8; bytes that are not become U+FFFD. */
  async readText(path: string, options: ReadOptions = {}): Promise<string> {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(await this.read(path, options));
  }

  /** The bytes as they come, for files of any size. */
  stream(path: string, options: ReadOptions = {}): Promise<AsyncIterable<Uint8Array>> {
    const { offset, length } = options;
    const range = { ...(offset === undefined ? {} : { offset }), ...(length === undefined ? {} : { length }) };
    return this.#host.readFile({ id: this.#id, path, ...range }, callOf(options));
  }

  /** Writes a file of any size; it appears whole or not at all, parents are made. */
  write(path: string, body: Body, options: ModeOptions = {}): Promise<FileInfo> {
    const { mode } = options;
    return this.#host.writeFile({ id: this.#id, path, body, ...(mode === undefined ? {} : { mode }) }, callOf(options));
  }

  /** Entries of a directory, by name. */
  list(path: string, options: CallOptions = {}): Promise<FileInfo[]> {
    return this.#host.listDirectory({ id: this.#id, path }, options);
  }

  /** One entry, symlinks not followed. */
  stat(path: string, options: CallOptions = {}): Promise<FileInfo> {
    return this.#host.stat({ id: this.#id, path }, options);
  }

  /** Makes a directory and its parents; an existing one is fine. */
  mkdir(path: string, options: ModeOptions = {}): Promise<void> {
    const { mode } = options;
    return this.#host.mkdir({ id: this.#id, path, ...(mode === undefined ? {} : { mode }) }, callOf(options));
  }

  /** Replaces a file that is there. */
  rename(path: string, to: string, options: CallOptions = {}): Promise<void> {
    return this.#host.rename({ id: this.#id, path, to }, options);
  }

  chmod(path: string, mode: number, options: CallOptions = {}): Promise<void> {
    return this.#host.chmod({ id: this.#id, path, mode }, options);
  }

  /** Deletes a file or an empty directory; with `recursive` a directory and all in it. */
  remove(path: string, options: CallOptions & { readonly recursive?: boolean } = {}): Promise<void> {
    const { recursive = false } = options;
    return this.#host.removeFile({ id: this.#id, path, recursive }, callOf(options));
  }

  /**
   * What changes in a directory, with `recursive` in all below it, or at a file. `ready` comes first: later changes are told.
   * Leaving the loop ends it; when what is watched is removed, that is the last event.
   * @throws {WarrenError} `file_not_found`; `file_error` – more directories than can be watched
   * @example
   * for await (const event of await sb.files.watch("/work", { recursive: true })) console.log(event.kind);
   */
  watch(
    path: string,
    options: CallOptions & { readonly recursive?: boolean } = {},
  ): Promise<AsyncIterable<WatchEvent>> {
    const { recursive = false } = options;
    return this.#host.watch({ id: this.#id, path, recursive }, callOf(options));
  }

  /** A directory or file as a tar stream. Its entries are the guest's word: unpack with care. */
  archive(path: string, options: CallOptions = {}): Promise<AsyncIterable<Uint8Array>> {
    return this.#host.archiveOut({ id: this.#id, path }, options);
  }

  /** Unpacks a tar stream into a directory. */
  unarchive(path: string, body: Body, options: CallOptions = {}): Promise<void> {
    return this.#host.archiveIn({ id: this.#id, path, body }, options);
  }
}

function callOf({ signal }: CallOptions): CallOptions {
  return signal === undefined ? {} : { signal };
}
