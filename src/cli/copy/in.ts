/** From this host into a sandbox: a file as it is, a directory as a tar stream that is made on the way. */
import { createReadStream, type Stats } from "node:fs";
import { lstat, open, readdir, readlink, stat } from "node:fs/promises";
import { basename, posix, resolve } from "node:path";
import { tarEnd, tarHeader, tarPadding } from "../../base/tar.ts";
import type { SandboxHost } from "../../contract/routes.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";

const SLASH = Buffer.from("/");
const CHUNK_BYTES = 256 * 1024;

function cannotRead(path: string | Uint8Array, cause: unknown): WarrenError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new WarrenError("invalid_request", `${path.toString()} cannot be read: ${why}`, { cause });
}

async function isDirectory(host: SandboxHost, id: string, path: string, signal: AbortSignal): Promise<boolean> {
  try {
    return (await host.stat({ id, path }, { signal })).type === "directory";
  } catch (cause) {
    if (isWarrenError(cause, "file_not_found")) return false;
    throw cause;
  }
}

/** Exactly `size` bytes of a file: an archive has promised them. */
async function* content(path: Buffer, size: number): AsyncGenerator<Uint8Array> {
  const file = await open(path);
  try {
    for (let at = 0; at < size; ) {
      const buffer = new Uint8Array(Math.min(CHUNK_BYTES, size - at));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) {
        throw new WarrenError("invalid_request", `${path.toString()} became shorter while it was copied`);
      }
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
  yield new Uint8Array(tarPadding(size));
}

async function* entry(path: Buffer, name: Buffer): AsyncGenerator<Uint8Array> {
  const facts = await lstat(path);
  const about = { name, mode: facts.mode, mtime: Math.floor(facts.mtimeMs / 1000) };
  if (facts.isSymbolicLink()) {
    const link = await readlink(path, { encoding: "buffer" });
    yield tarHeader({ ...about, kind: "symlink", link, size: 0 });
  } else if (facts.isDirectory()) {
    yield tarHeader({ ...about, kind: "directory", name: Buffer.concat([name, SLASH]), size: 0 });
    for (const child of await readdir(path, { encoding: "buffer" })) {
      yield* entry(Buffer.concat([path, SLASH, child]), Buffer.concat([name, SLASH, child]));
    }
  } else if (facts.isFile()) {
    yield tarHeader({ ...about, kind: "file", size: facts.size });
    yield* content(path, facts.size);
  }
  // Sockets, pipes and devices of this host mean nothing in a guest.
}

/** A directory's content as a tar stream; names are bytes, links stay links. */
export async function* tarOf(directory: string): AsyncGenerator<Uint8Array> {
  const root = Buffer.from(resolve(directory));
  try {
    for (const child of await readdir(root, { encoding: "buffer" })) {
      yield* entry(Buffer.concat([root, SLASH, child]), Buffer.concat([Buffer.from("./"), child]));
    }
  } catch (cause) {
    throw cause instanceof WarrenError ? cause : cannotRead(directory, cause);
  }
  yield tarEnd();
}

/** @throws {WarrenError} `invalid_request` – the local path cannot be read; as the contract's file calls say. */
export async function copyIn(
  host: SandboxHost,
  from: string,
  id: string,
  to: string,
  signal: AbortSignal,
): Promise<void> {
  let facts: Stats;
  try {
    facts = await stat(from);
  } catch (cause) {
    throw cannotRead(from, cause);
  }
  const isInside = to.endsWith("/") || (await isDirectory(host, id, to, signal));
  const target = isInside ? posix.join(to, basename(resolve(from))) : to;
  if (facts.isDirectory()) {
    await host.archiveIn({ id, path: target, body: tarOf(from) }, { signal });
    return;
  }
  if (!facts.isFile()) throw new WarrenError("invalid_request", `${from} is neither a file nor a directory`);
  const mode = facts.mode & 0o777;
  await host.writeFile({ id, path: target, body: createReadStream(from), mode }, { signal });
}
