/** The fake guest's file system: directories, files and symlinks by exact bytes of their names (latin-1 keys), in memory. */
import type { Clock } from "../../base/clock.ts";
import type { FileRecord } from "../../guest/records.ts";

export const ERRNO = { ENOENT: 2, EEXIST: 17, ENOTDIR: 20, EISDIR: 21, EINVAL: 22, ENOTEMPTY: 39 } as const;

/** What a system call would have returned; `says` as strerror would. */
export class GuestError extends Error {
  readonly errno: number;
  constructor(errno: number, says: string) {
    super(says);
    this.errno = errno;
  }
}

const SAYS: Readonly<Record<number, string>> = {
  [ERRNO.ENOENT]: "No such file or directory",
  [ERRNO.ENOTDIR]: "Not a directory",
  [ERRNO.EISDIR]: "Is a directory",
  [ERRNO.ENOTEMPTY]: "Directory not empty",
  [ERRNO.EINVAL]: "Invalid argument",
};

function refusal(errno: number, path: string): GuestError {
  return new GuestError(errno, `${Buffer.from(path, "latin1").toString()}: ${SAYS[errno]}`);
}

interface Node {
  readonly type: FileRecord["type"];
  mode: number;
  mtimeNs: bigint;
  content: Uint8Array;
}

const EMPTY = new Uint8Array(0);

/** Bytes as a key of one character per byte, and back: names need not be UTF-8. */
export const key = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
export const bytesOf = (path: string): Uint8Array => new Uint8Array(Buffer.from(path, "latin1"));

/** What has happened to an entry; the path as a key. */
export interface FakeChange {
  readonly kind: "created" | "modified" | "removed" | "attributes";
  readonly path: string;
  readonly directory: boolean;
}

export class FakeFiles {
  /** Called at each change. */
  readonly watchers = new Set<(change: FakeChange) => void>();
  readonly #clock: Clock;
  readonly #nodes = new Map<string, Node>();

  constructor(clock: Clock) {
    this.#clock = clock;
    for (const path of ["/", "/tmp", "/work", "/root", "/etc"]) this.#put(path, "directory", 0o755, EMPTY);
  }

  read(at: string): Uint8Array {
    const node = this.#node(at);
    if (node.type === "directory") throw refusal(ERRNO.EISDIR, at);
    return node.content;
  }

  /** As {@link write}, into the file that is there: what has happened to it is another thing. */
  pour(at: string, content: Uint8Array): void {
    const known = this.#nodes.get(clean(at));
    if (known?.type !== "file") this.write(at, 0o644, content);
    else known.content = content;
    this.#tell("modified", clean(at), false);
  }

  /** Replaces the whole content at once; parents are made. */
  write(at: string, mode: number, content: Uint8Array): void {
    const path = clean(at);
    if (this.#nodes.get(path)?.type === "directory") throw refusal(ERRNO.EISDIR, at);
    this.mkdir(parent(path), 0o755);
    this.#put(path, "file", mode, content);
    this.#tell("created", path, false);
  }

  mkdir(at: string, mode: number): void {
    const path = clean(at);
    const there = this.#nodes.get(path);
    if (there?.type === "directory") return;
    if (there !== undefined) throw refusal(ERRNO.ENOTDIR, at);
    if (path !== "/") this.mkdir(parent(path), 0o755); // all of it may have been removed
    this.#put(path, "directory", mode, EMPTY);
    this.#tell("created", path, true);
  }

  stat(at: string): FileRecord {
    const path = clean(at);
    return record(path, this.#node(path));
  }

  list(at: string): FileRecord[] {
    const path = clean(at);
    if (this.#node(path).type !== "directory") throw refusal(ERRNO.ENOTDIR, at);
    return this.#below(path).map((p) => record(p, this.#node(p)));
  }

  rename(from: string, to: string): void {
    const [source, target] = [clean(from), clean(to)];
    const node = this.#node(source);
    this.#node(parent(target));
    if (this.#nodes.get(target)?.type === "directory") throw refusal(ERRNO.EISDIR, to);
    if (node.type === "directory" && this.#below(source).length > 0) throw refusal(ERRNO.EINVAL, from);
    this.#nodes.delete(source);
    this.#nodes.set(target, node);
    this.#tell("removed", source, node.type === "directory");
    this.#tell("created", target, node.type === "directory");
  }

  chmod(at: string, mode: number): void {
    const node = this.#node(at);
    node.mode = mode;
    this.#tell("attributes", clean(at), node.type === "directory");
  }

  remove(at: string): void {
    const path = clean(at);
    if (this.#node(path).type === "directory" && this.#below(path).length > 0) {
      throw refusal(ERRNO.ENOTEMPTY, at);
    }
    this.#delete(path);
  }

  removeAll(at: string): void {
    const path = clean(at);
    for (const other of this.#below(path)) this.removeAll(other);
    this.#delete(path);
  }

  #delete(path: string): void {
    const node = this.#nodes.get(path);
    if (this.#nodes.delete(path)) this.#tell("removed", path, node?.type === "directory");
  }

  #tell(kind: FakeChange["kind"], path: string, directory: boolean): void {
    for (const hear of [...this.watchers]) hear({ kind, path, directory });
  }

  #below(path: string): string[] {
    const paths = [...this.#nodes.keys()].filter((p) => p !== "/" && parent(p) === path);
    return paths.sort();
  }

  #node(at: string): Node {
    const node = this.#nodes.get(clean(at));
    if (node === undefined) throw refusal(ERRNO.ENOENT, at);
    return node;
  }

  #put(path: string, type: FileRecord["type"], mode: number, content: Uint8Array): void {
    this.#nodes.set(path, { type, mode, content, mtimeNs: BigInt(Math.round(this.#clock.wallMs())) * 1_000_000n });
  }
}

function record(path: string, node: Node): FileRecord {
  const { type, mode, mtimeNs, content } = node;
  const name = path === "/" ? path : path.slice(path.lastIndexOf("/") + 1);
  return { type, mode, uid: 0, gid: 0, sizeBytes: content.length, mtimeNs, name: bytesOf(name), target: EMPTY };
}

/** Absolute, without `.`, `..` and doubled slashes. */
export function clean(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

function parent(path: string): string {
  return clean(path.slice(0, path.lastIndexOf("/")));
}
