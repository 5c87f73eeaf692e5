/**
 * Brings back what an item left: named files as they are, directories through the guest's tar. All of it is hostile: names,
 * sizes, types and the archive itself. Only regular files are taken, within a count, a byte count and a deadline for the
 * whole item; what is not taken is said. Whatever happens here, the item keeps its verdict.
 */
import { type TarEntry, TarError, untar } from "../../base/untar.ts";
import type { SandboxHost } from "../../contract/routes.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import type { Artifact } from "../row.ts";
import type { ArtifactSink } from "./sink.ts";

/** `problems` is empty when every path was there and all of it was taken. */
export interface Collected {
  readonly artifacts: readonly Artifact[];
  readonly problems: readonly string[];
}

export interface CollectAsk {
  readonly host: SandboxHost;
  readonly sandbox: string;
  readonly key: string;
  readonly paths: readonly string[];
  readonly sink: ArtifactSink;
  readonly signal: AbortSignal;
}

/** Headers and padding of an archive, beside the content that is counted: 4 KiB an entry is far more than any writes. */
const ARCHIVE_OVERHEAD_BYTES = 4096;
const PROBLEMS_MAX = 10;

/** Why one more file is not taken; ends the collecting. */
class Full extends Error {}

function tooLarge(): Full {
  return new Full(`more than ${LIMITS.artifactBytes} bytes of artifacts`);
}

class Collector {
  readonly artifacts: Artifact[] = [];
  readonly problems: string[] = [];
  readonly #ask: CollectAsk;
  #bytesLeft: number = LIMITS.artifactBytes;

  constructor(ask: CollectAsk) {
    this.#ask = ask;
  }

  tell(problem: string): void {
    if (this.problems.length < PROBLEMS_MAX) this.problems.push(problem);
  }

  /** Receives one regular file; it is kept whole or not at all. */
  async take(path: Uint8Array, claimedBytes: number, body: AsyncIterable<Uint8Array>): Promise<void> {
    if (this.artifacts.length >= LIMITS.artifacts) throw new Full(`more than ${LIMITS.artifacts} artifacts`);
    // Only a claim, and what comes is counted all the same; believing it saves reading what will not be kept.
    if (claimedBytes > this.#bytesLeft) throw tooLarge();
    const writer = await this.#ask.sink.create(this.#ask.key, path);
    const hash = new Bun.CryptoHasher("sha256");
    let size = 0;
    try {
      for await (const chunk of body) {
        size += chunk.length;
        if (size > this.#bytesLeft) throw tooLarge();
        hash.update(chunk);
        await writer.write(chunk);
      }
    } catch (cause) {
      await writer.drop();
      throw cause;
    }
    this.#bytesLeft -= size;
    const kept = await writer.keep();
    this.artifacts.push({ ...nameOf(path), size, sha256: hash.digest("hex"), ...kept });
  }

  async path(path: string): Promise<void> {
    const { host, sandbox: id, signal } = this.#ask;
    const info = await host.stat({ id, path }, { signal });
    if (info.type === "directory") return this.#directory(path);
    if (info.type !== "file")
      return this.tell(`output path ${path} is ${info.type === "symlink" ? "a symlink" : "no file"}`);
    await this.take(
      Buffer.from(path),
      info.size,
      lazily(() => host.readFile({ id, path }, { signal })),
    );
  }

  async #directory(path: string): Promise<void> {
    const { host, sandbox: id, signal } = this.#ask;
    const archive = await host.archiveOut({ id, path }, { signal });
    const most = this.#bytesLeft + LIMITS.artifacts * ARCHIVE_OVERHEAD_BYTES;
    for await (const entry of untar(bounded(archive, most))) await this.#entry(path, entry);
  }

  async #entry(root: string, entry: TarEntry): Promise<void> {
    if (entry.kind !== "file") return;
    // Wherever the archive claims it was: below the directory that was asked for it is filed.
    const path = Buffer.concat([Buffer.from(root === "/" ? "/" : `${root}/`), relative(entry.name)]);
    if (path.length > LIMITS.pathBytes) return this.tell(`a name below ${root} is too long`);
    try {
      await this.take(path, entry.size, entry.body);
    } catch (cause) {
      if (!isWarrenError(cause, "file_error")) throw cause;
      this.tell(`${nameOf(path).path}: ${cause.message}`);
    }
  }
}

/** Without leading `./` and `/`, so that it reads as below its root; `..` stays and is escaped where it matters. */
function relative(name: Uint8Array): Uint8Array {
  let start = 0;
  for (;;) {
    if (name[start] === 0x2f) start += 1;
    else if (name[start] === 0x2e && name[start + 1] === 0x2f) start += 2;
    else return name.subarray(start);
  }
}

function nameOf(path: Uint8Array): { path: string; path_base64?: string } {
  try {
    return { path: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(path) };
  } catch {
    // Not UTF-8: readable for people, exact for programs.
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(path);
    return { path: text, path_base64: Buffer.from(path).toString("base64") };
  }
}

/** Not opened before it is read: what is never read would stay open. */
async function* lazily(open: () => Promise<AsyncIterable<Uint8Array>>): AsyncGenerator<Uint8Array> {
  yield* await open();
}

async function* bounded(source: AsyncIterable<Uint8Array>, most: number): AsyncGenerator<Uint8Array> {
  let left = most;
  for await (const chunk of source) {
    left -= chunk.length;
    if (left < 0) throw tooLarge();
    yield chunk;
  }
}

/** What one path's failure means in words, or null when it is none of the path's. */
function problemOf(path: string, cause: unknown): string | null {
  if (isWarrenError(cause, "file_not_found")) return `output path ${path} does not exist`;
  if (cause instanceof TarError) return `output path ${path}: its archive is damaged (${cause.message})`;
  if (cause instanceof WarrenError && cause.fault === "caller") return `output path ${path}: ${cause.message}`;
  return null;
}

/**
 * Collects every path of an item. A missing path or a full allowance is a problem in the answer.
 * @throws {WarrenError} – the sandbox was lost or broke the protocol meanwhile; `cancelled` – by `signal`.
 */
export async function collect(ask: CollectAsk): Promise<Collected> {
  const collector = new Collector(ask);
  for (const path of ask.paths) {
    try {
      await collector.path(path);
    } catch (cause) {
      if (ask.signal.aborted) throw cause;
      if (cause instanceof Full) {
        collector.tell(`it left ${cause.message}; the rest was not taken`);
        break;
      }
      const problem = problemOf(path, cause);
      if (problem === null) {
        throw new Unfinished(collector, cause);
      }
      collector.tell(problem);
    }
  }
  return collector;
}

/** The sandbox broke while its artifacts were read; holds those that arrived before. */
export class Unfinished extends Error {
  readonly collected: Collected;

  constructor(collected: Collected, cause: unknown) {
    super("the sandbox broke while its artifacts were read", { cause });
    this.collected = collected;
  }
}
