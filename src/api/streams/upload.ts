/** An upload, passed on as it comes: a client that breaks off fails it, so that half a file is never taken for a whole one. */
import { WarrenError } from "../../errors.ts";

/** The body's bytes. @throws {WarrenError} `cancelled` – the client is gone before its end */
export async function* uploaded(request: Request, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const header = request.headers.get("content-length");
  const promised = header === null ? null : Number(header);
  let bytes = 0;
  try {
    for await (const chunk of (request.body ?? []) as AsyncIterable<Uint8Array>) {
      bytes += chunk.length;
      yield chunk;
    }
  } catch (cause) {
    throw new WarrenError("cancelled", "the upload broke off", { cause });
  }
  if (signal.aborted || (promised !== null && bytes < promised))
    throw new WarrenError("cancelled", `the upload broke off after ${bytes} bytes`);
}
