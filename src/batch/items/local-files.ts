/** Files of this host that items name: below one directory, regular, not reached through `..` or a symlink that leaves it. */
import { realpath, stat } from "node:fs/promises";
import { isAbsolute, join, sep } from "node:path";
import { WarrenError } from "../../errors.ts";

export interface LocalFiles {
  /**
   * The whole path of a file, after every check.
   * @throws {WarrenError} `invalid_request` – outside the directory, missing, unreadable or no regular file.
   */
  resolve(name: string): Promise<string>;
}

function bad(name: string, says: string, cause?: unknown): WarrenError {
  return new WarrenError("invalid_request", `local file ${JSON.stringify(name)} ${says}`, { cause });
}

/** Nothing may be named: the batch was not given a directory. */
export const noLocalFiles: LocalFiles = {
  resolve: async (name) => {
    throw bad(name, "cannot be used: name the directory that it is in with --files DIR");
  },
};

/** @throws {WarrenError} `invalid_request` – `directory` is none, or cannot be read. */
export async function localFilesIn(directory: string): Promise<LocalFiles> {
  let root: string;
  try {
    root = await realpath(directory);
    if (!(await stat(root)).isDirectory()) throw new Error("it is no directory");
  } catch (cause) {
    throw new WarrenError("invalid_request", `--files ${directory} cannot be used: ${why(cause)}`, { cause });
  }
  const prefix = root.endsWith(sep) ? root : root + sep;
  return {
    resolve: async (name) => {
      if (isAbsolute(name) || name.split("/").includes("..")) throw bad(name, "has to be a path below --files");
      try {
        const path = await realpath(join(root, name));
        if (!path.startsWith(prefix)) throw bad(name, "is a symlink that leaves --files");
        if (!(await stat(path)).isFile()) throw bad(name, "is no regular file");
        return path;
      } catch (cause) {
        throw cause instanceof WarrenError ? cause : bad(name, `cannot be read: ${why(cause)}`, cause);
      }
    },
  };
}

function why(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
