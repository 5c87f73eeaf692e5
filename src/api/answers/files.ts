/** A file as an answer: all of it, or the range that HTTP asks for. Never shown by a browser as a page of this server's. */

import type { FileInfo } from "../../contract/routes/files.ts";
import { WarrenError } from "../../errors.ts";
import type { RequestContext } from "../parts.ts";
import { type ByteRange, rangeOf } from "../streams/range.ts";
import { stream } from "./answer.ts";
import { type Answer, type AnswerParts, bytesAnswer, bytesBody, DOWNLOAD } from "./bytes.ts";

/** As many links as a kernel follows. */
const LINKS = 40;

/** What a path leads to. @throws {WarrenError} as `stat` does */
async function followed({ host, signal }: RequestContext, id: string, path: string): Promise<FileInfo> {
  let at = path;
  for (let left = LINKS; left > 0; left--) {
    const info = await host.stat({ id, path: at }, { signal });
    const { type, symlinkTarget } = info;
    if (type !== "symlink" || symlinkTarget === undefined) return info;
    at = symlinkTarget.startsWith("/") ? symlinkTarget : `${at.slice(0, at.lastIndexOf("/"))}/${symlinkTarget}`;
  }
  throw new WarrenError("file_error", `${path}: too many levels of symbolic links`, { details: { path } });
}

/** Null: all of it. What has no size, as in /proc, has no ranges. */
async function wanted(asked: RequestContext, header: string | null, id: string, path: string) {
  if (header === null) return null;
  const { size, type } = await followed(asked, id, path);
  if (type !== "file" || size === 0) return null;
  const range = rangeOf(header, size);
  return range === null ? null : { range, size };
}

export function fileAnswer(parts: AnswerParts): Answer {
  const whole = bytesAnswer("readFile", parts);
  return async (context, asked, fields, call) => {
    const { id, path, offset, length } = fields.input as { id: string; path: string; offset?: number; length?: number };
    const explicit = offset !== undefined || length !== undefined;
    const part = explicit ? null : await wanted(asked, context.req.header("range") ?? null, id, path);
    if (part === null) return whole(context, asked, fields, call);
    const { range, size } = part;
    const { host, signal } = asked;
    const ask = { id, path, offset: range.first, length: range.last - range.first + 1 };
    const bytes = await host.readFile(ask, { signal });
    const body = bytesBody(bytes[Symbol.asyncIterator](), context, parts);
    return stream(body, "application/octet-stream", headersOf(range, size), 206);
  };
}

function headersOf({ first, last }: ByteRange, size: number): Record<string, string> {
  return {
    ...DOWNLOAD,
    "accept-ranges": "bytes",
    "content-range": `bytes ${first}-${last}/${size}`,
    "content-length": String(last - first + 1),
  };
}
