/** What `warren run` is to run: a file of this host, text of the command line, or stdin. */
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type { Command as Cli } from "commander";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import type { Command } from "../sandbox.ts";
import type { Io } from "./ground/io.ts";

export interface ProgramAsk {
  readonly file: string | undefined;
  readonly args: readonly string[];
  readonly code: string | undefined;
  readonly isShell: boolean;
}

/** The command for a sandbox, and whether stdin is still there for it. */
export interface Program {
  readonly command: Command;
  readonly stdinIsFree: boolean;
}

async function sourceOf(io: Io, file: string): Promise<string> {
  try {
    const bytes = file === "-" ? await allOf(io.input.bytes()) : await readFile(file);
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    const why = cause instanceof TypeError ? "it is not UTF-8" : cause instanceof Error ? cause.message : String(cause);
    throw new WarrenError("invalid_request", `${file === "-" ? "stdin" : file} cannot be run: ${why}`, { cause });
  }
}

async function allOf(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk.slice());
  return Buffer.concat(parts);
}

/** Reads the program. @throws {WarrenError} `invalid_request` – it cannot be read; a usage error when none is named. */
export async function commandFor(io: Io, cli: Cli, ask: ProgramAsk): Promise<Program> {
  const { file, args, code, isShell } = ask;
  if (file === undefined && code === undefined) cli.error("error: name a FILE, or give the program with -c CODE");
  // With -c everything else is the program's own.
  const rest = code !== undefined && file !== undefined ? [file, ...args] : [...args];
  const source = code ?? (await sourceOf(io, file ?? "-"));
  const stdinIsFree = code !== undefined || file !== "-";
  if (!isShell) {
    const name = code === undefined && file !== undefined && file !== "-" ? basename(file) : "item.py";
    return { command: { python: { code: source, path: `/work/${name}`, args: rest } }, stdinIsFree };
  }
  if (Buffer.byteLength(source) > LIMITS.execArgumentBytes / 2) {
    const says = `a shell script of more than ${LIMITS.execArgumentBytes / 2} bytes cannot be run this way`;
    throw new WarrenError("invalid_request", `${says}: copy it into a sandbox with \`warren cp\``);
  }
  return { command: ["sh", "-c", source, file ?? "sh", ...rest], stdinIsFree };
}
