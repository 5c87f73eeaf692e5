/**
 * A guest's archive below one directory of this host, and nowhere else. Parents are real directories, never links; files
 * are made new; symlinks are made last, so that nothing is ever written through one, and only if they cannot lead out;
 * devices, pipes and set-id bits are left behind. What is refused is said, not silently changed.
 */
import { constants, type Stats } from "node:fs";
import { chmod, link, lstat, mkdir, open, rm, symlink, utimes } from "node:fs/promises";
import type { TarEntry } from "../../base/untar.ts";

const SLASH = 0x2f;
const REFUSED_MAX = 1000;

/** Components of a name in an archive, or why it is refused. Names are bytes. */
function componentsOf(name: Uint8Array): Uint8Array[] | string {
  if (name[0] === SLASH) return "its name is absolute";
  const parts: Uint8Array[] = [];
  let start = 0;
  for (let i = 0; i <= name.length; i++) {
    if (i < name.length && name[i] !== SLASH) continue;
    const part = name.subarray(start, i);
    start = i + 1;
    const text = part.length <= 2 ? Buffer.from(part).toString("latin1") : "";
    if (text === "..") return "its name leaves the target";
    if (part.includes(0)) return "its name holds a NUL";
    if (part.length > 0 && text !== ".") parts.push(part);
  }
  return parts;
}

/**
 * True when a link at this depth (directories between it and the root) stays inside whatever else is unpacked: first any
 * number of `..` up to the root, then names only. A `..` behind a name could climb out of where another link leads.
 */
export function staysInside(target: Uint8Array, depth: number): boolean {
  const text = Buffer.from(target).toString("latin1");
  if (text === "" || text.startsWith("/") || text.includes("\0")) return false;
  const parts = text.split("/").filter((part) => part !== "" && part !== ".");
  const ups = parts.findIndex((part) => part !== "..");
  const climbs = ups < 0 ? parts.length : ups;
  return climbs <= depth && !parts.slice(climbs).includes("..");
}

async function factsOf(path: Buffer): Promise<Stats | null> {
  try {
    return await lstat(path);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return null;
    throw cause;
  }
}

export class Unpacker {
  readonly refused: string[] = [];
  readonly #root: Buffer;
  readonly #links: { readonly path: Buffer; readonly target: Uint8Array }[] = [];
  /** Directories get their modes last: one without write permission would not take its content. */
  readonly #modes: { readonly path: Buffer; readonly mode: number }[] = [];

  /** `root` is a directory that exists. */
  constructor(root: string) {
    this.#root = Buffer.from(root);
  }

  async take(entry: TarEntry): Promise<void> {
    const parts = componentsOf(entry.name);
    if (typeof parts === "string") return this.#refuse(entry, parts);
    if (parts.length === 0) return;
    const parent = await this.#directory(parts.slice(0, -1));
    if (parent === null) return this.#refuse(entry, "something that is no directory stands in its way");
    const path = Buffer.concat([parent, Buffer.from("/"), parts.at(-1) ?? new Uint8Array(0)]);
    if (entry.kind === "directory") return this.#makeDirectory(entry, path);
    if (entry.kind === "other") return this.#refuse(entry, "it is a device, a pipe or something else that is no file");
    const before = await factsOf(path);
    if (before?.isDirectory() === true) return this.#refuse(entry, "a directory of that name is there");
    if (entry.kind === "symlink") {
      if (!staysInside(entry.link, parts.length - 1))
        return this.#refuse(entry, "it is a link that may leave the target");
      this.#links.push({ path, target: entry.link });
      return;
    }
    if (before !== null) await rm(path);
    if (entry.kind === "hardlink") return this.#hardlink(entry, path);
    await this.#file(entry, path);
  }

  /** Links and modes, now that nothing is written any more. */
  async finish(): Promise<void> {
    for (const { path, target } of this.#links) {
      const before = await factsOf(path);
      if (before?.isDirectory() === true) continue;
      if (before !== null) await rm(path);
      await symlink(Buffer.from(target), path);
    }
    for (const { path, mode } of this.#modes.reverse()) {
      if ((await factsOf(path))?.isDirectory() === true) await chmod(path, mode & 0o777);
    }
  }

  /** A chain of real directories, made where missing; null when something else stands there. */
  async #directory(parts: readonly Uint8Array[]): Promise<Buffer | null> {
    let path = this.#root;
    for (const part of parts) {
      path = Buffer.concat([path, Buffer.from("/"), part]);
      const facts = await factsOf(path);
      if (facts === null) await mkdir(path);
      else if (!facts.isDirectory()) return null;
    }
    return path;
  }

  async #makeDirectory(entry: TarEntry, path: Buffer): Promise<void> {
    const facts = await factsOf(path);
    if (facts === null) await mkdir(path);
    else if (!facts.isDirectory()) return this.#refuse(entry, "something that is no directory has its name");
    this.#modes.push({ path, mode: entry.mode });
  }

  async #file(entry: TarEntry, path: Buffer): Promise<void> {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const file = await open(path, flags, entry.mode & 0o777);
    try {
      for await (const chunk of entry.body) await file.writeFile(chunk);
    } finally {
      await file.close();
    }
    await utimes(path, entry.mtime, entry.mtime);
  }

  /** To a file of this archive that is there already, found the same careful way. */
  async #hardlink(entry: TarEntry, path: Buffer): Promise<void> {
    const parts = componentsOf(entry.link);
    const parent = typeof parts === "string" ? null : await this.#directory(parts.slice(0, -1));
    if (typeof parts === "string" || parent === null)
      return this.#refuse(entry, "it is a link that may leave the target");
    const target = Buffer.concat([parent, Buffer.from("/"), parts.at(-1) ?? new Uint8Array(0)]);
    if ((await factsOf(target))?.isFile() !== true)
      return this.#refuse(entry, "it links to something that is no file here");
    await link(target, path);
  }

  #refuse(entry: TarEntry, why: string): void {
    if (this.refused.length < REFUSED_MAX)
      this.refused.push(`left out ${new TextDecoder().decode(entry.name)}: ${why}`);
  }
}
