/** A file as an answer: all of it, or the range that HTTP asks for. Never shown by a browser as a page of this server's. */

import type { FileInfo } from "../../contract/routes/files.ts";
import { WarrenError } from "../../errors.ts";
import type { RequestContext } from "../parts.ts";
import { type ByteRange, rangeOf } from "../streams/range.ts";
import { empty, stream } from "./answer.ts";
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

interface FileAsked {
  readonly id: string;
  readonly path: string;
  readonly offset?: number;
  readonly length?: number;
}

/** What a GET of it would say, without reading it. @throws {WarrenError} as `stat` does; `file_error` – it is no file; `range_not_satisfiable` */
async function head(asked: RequestContext, header: string | null, fields: FileAsked): Promise<Response> {
  const { id, path, offset = 0, length = Number.POSITIVE_INFINITY } = fields;
  const { size, type } = await followed(asked, id, path);
  if (type === "directory") throw new WarrenError("file_error", `${path}: Is a directory`, { details: { path } });
  const isKnown = type === "file" && size > 0; // what has no size, as in /proc, says none
  const explicit = fields.offset !== undefined || fields.length !== undefined;
  const range = isKnown && !explicit ? rangeOf(header, size) : null;
  if (range !== null) return headed(206, headersOf(range, size));
  const bytes = Math.max(0, Math.min(length, size - offset));
  return headed(200, { ...DOWNLOAD, ...(isKnown ? { "content-length": String(bytes) } : {}) });
}

function headed(status: number, headers: Record<string, string>): Response {
  return empty(status, { "content-type": "application/octet-stream", ...headers });
}

export function fileAnswer(parts: AnswerParts): Answer {
  const whole = bytesAnswer("readFile", parts);
  return async (context, asked, fields, call) => {
    const { id, path, offset, length } = fields.input as unknown as FileAsked;
    if (context.req.raw.method === "HEAD")
      return head(asked, context.req.header("range") ?? null, fields.input as unknown as FileAsked);
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
