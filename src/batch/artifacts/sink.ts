/**
 * Where artifacts go: memory for embedded use, a directory for a batch on disk. Both take hostile names; the directory
 * holds regular files only, made new under names of {@link safePath}, never through a symlink.
 */
import { constants } from "node:fs";
import { type FileHandle, lstat, mkdir, open, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { WarrenError } from "../../errors.ts";
import { safeComponent, safePath } from "./safe-name.ts";

/** One artifact being received. Exactly one of `keep` and `drop` ends it. */
export interface ArtifactWriter {
  write(bytes: Uint8Array): Promise<void>;
  keep(): Promise<{ readonly file: string | null; readonly bytes?: Uint8Array }>;
  /** Leaves nothing of it. */
  drop(): Promise<void>;
}

export interface ArtifactSink {
  /** Forgets what an earlier run of the item left. */
  reset(key: string): Promise<void>;
  /** @throws {WarrenError} `file_error` – the same item has a file of that name already. */
  create(key: string, path: Uint8Array): Promise<ArtifactWriter>;
}

/** Bytes come back in the row. */
export function memorySink(): ArtifactSink {
  return {
    reset: async () => undefined,
    create: async () => {
      const parts: Uint8Array[] = [];
      return {
        write: async (bytes) => {
          parts.push(bytes.slice());
        },
        keep: async () => ({ file: null, bytes: new Uint8Array(Buffer.concat(parts)) }),
        drop: async () => undefined,
      };
    },
  };
}

function codeOf(cause: unknown): string | undefined {
  return cause instanceof Error && "code" in cause ? String(cause.code) : undefined;
}

async function isSymlink(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isSymbolicLink();
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return false;
    throw cause;
  }
}

/** Two names of a guest may meet in one place, as a file and as a directory; the later one is refused. */
function refused(cause: unknown): unknown {
  const code = codeOf(cause);
  if (code !== "EEXIST" && code !== "ENOTDIR" && code !== "EISDIR" && code !== "ELOOP") return cause;
  return new WarrenError("file_error", "another artifact of this item has that name", { cause });
}

/**
 * A sink that writes to `root`/ID/PATH, made when first needed; rows name the file as `shown`/ID/PATH.
 * @throws {WarrenError} `file_error` – at the first artifact, when `root` is a symlink.
 */
export function directorySink(root: string, shown: string): ArtifactSink {
  const below = (key: string) => join(root, safeComponent(Buffer.from(key)));
  return {
    reset: (key) => rm(below(key), { recursive: true, force: true }),
    create: async (key, path) => {
      if (await isSymlink(root))
        throw new WarrenError("file_error", `${root} is a symlink: artifacts need a directory`);
      const target = join(below(key), safePath(path));
      try {
        await mkdir(dirname(target), { recursive: true });
        const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
        const file = await open(target, flags, 0o644);
        return {
          write: (bytes) => writeAll(file, bytes),
          keep: async () => {
            await file.close();
            return { file: join(shown, target.slice(root.length + 1)) };
          },
          drop: async () => {
            await file.close();
            await rm(target, { force: true });
          },
        };
      } catch (cause) {
        throw refused(cause);
      }
    },
  };
}

/** @throws {WarrenError} `storage_exhausted` – this host's disk, which is no fault of the item. */
async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  try {
    for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at)).bytesWritten;
  } catch (cause) {
    const code = codeOf(cause);
    if (code !== "ENOSPC" && code !== "EDQUOT") throw cause;
    throw new WarrenError(
      "storage_exhausted",
      "no disk space left for artifacts: free some, then run the same command again",
      { cause },
    );
  }
}
