/** Where a report goes: stdout, or a file that appears whole. */
import { WarrenError } from "../../../errors.ts";
import { cannotWrite, writeWhole } from "../../copy/whole.ts";
import type { Io } from "../../ground/io.ts";

export async function* textPieces(lines: Iterable<string> | AsyncIterable<string>): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  for await (const line of lines) yield encoder.encode(line);
}

/**
 * @param out a file; undefined or `-` for stdout
 * @throws {WarrenError} `invalid_request` – bytes for a terminal, or a file that cannot be written; `storage_exhausted`
 */
export async function deliver(
  io: Io,
  out: string | undefined,
  body: AsyncIterable<Uint8Array>,
  isBinary = false,
): Promise<void> {
  if (out !== undefined && out !== "-") {
    try {
      await writeWhole(out, 0o644, body);
    } catch (cause) {
      throw cannotWrite(out, cause);
    }
    return;
  }
  if (isBinary && io.out.isTty)
    throw new WarrenError("invalid_request", "these bytes are not for a terminal: name a file with --out FILE");
  for await (const piece of body) await io.out.write(piece);
}
