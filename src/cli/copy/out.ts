/** From a sandbox to this host: a file in one piece, a directory entry by entry. What comes out is not trusted. */
import { mkdir, stat } from "node:fs/promises";
import { basename, join, posix } from "node:path";
import { TarError, untar } from "../../base/untar.ts";
import type { SandboxHost } from "../../contract/routes.ts";
import { WarrenError } from "../../errors.ts";
import { Unpacker } from "./unpack.ts";
import { cannotWrite, writeWhole } from "./whole.ts";

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return false;
    throw cause;
  }
}

/**
 * Copies `from` of a sandbox to `to`; the result says what was refused and why, with names of the guest's choosing.
 * @throws {WarrenError} `invalid_request` – `to` cannot be written; `file_error` – the guest's archive is damaged; as the
 * contract's file calls say.
 */
export async function copyOut(
  host: SandboxHost,
  id: string,
  from: string,
  to: string,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const info = await host.stat({ id, path: from }, { signal });
  const name = posix.basename(posix.normalize(from));
  const isInside = name !== "" && name !== "/" && (to.endsWith("/") || (await isDirectory(to)));
  const target = isInside ? join(to, name) : to;
  try {
    if (info.type !== "directory") {
      if (await isDirectory(target)) throw new WarrenError("invalid_request", `${target} is a directory`);
      await writeWhole(target, info.mode, await host.readFile({ id, path: from }, { signal }));
      return [];
    }
    await mkdir(target, { recursive: true });
    const unpacker = new Unpacker(target);
    for await (const entry of untar(await host.archiveOut({ id, path: from }, { signal }))) await unpacker.take(entry);
    await unpacker.finish();
    return unpacker.refused;
  } catch (cause) {
    if (cause instanceof TarError) {
      throw new WarrenError("file_error", `what the sandbox sent of ${from} is damaged: ${cause.message}`, { cause });
    }
    throw cannotWrite(basename(target) === "" ? to : target, cause);
  }
}
