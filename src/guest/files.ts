/**
 * Files of a guest: requests, streams bounded by credit, and records as the contract has them. Paths and names are the
 * guest's own: nothing here touches a file of the host.
 */
import type { Body } from "../contract/route.ts";
import type { FileInfo } from "../contract/routes/files.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { settled } from "./call.ts";
import { NO_BYTES, violation } from "./codec.ts";
import type { Connection } from "./connection.ts";
import { encodeFields, type Field } from "./fields.ts";
import { ASK, SAY, TAG } from "./protocol.ts";
import { decodeFileRecords, type FileRecord } from "./records.ts";
import { FILE_MEANING, refused } from "./refusal.ts";

/** Any body as pieces. */
export async function* pieces(body: Body): AsyncGenerator<Uint8Array> {
  if (typeof body === "string") yield new TextEncoder().encode(body);
  else if (body instanceof Uint8Array) yield body;
  else yield* body;
}

/** The body when it is at hand and small enough for one frame. */
function inline(body: Body): Uint8Array | null {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  return bytes instanceof Uint8Array && bytes.length <= LIMITS.inlineFileBytes ? bytes : null;
}

function fileInfo(record: FileRecord, path: string): FileInfo {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const name = decoder.decode(record.name);
  const exact = Buffer.from(name).equals(record.name);
  return {
    name,
    ...(exact ? {} : { nameBase64: Buffer.from(record.name).toString("base64") }),
    path,
    type: record.type,
    size: record.sizeBytes,
    mode: record.mode,
    uid: record.uid,
    gid: record.gid,
    mtime: Number(record.mtimeNs) / 1e9,
    ...(record.type === "symlink" ? { symlinkTarget: decoder.decode(record.target) } : {}),
  };
}

/** `request` with a file's meaning of the guest's error numbers. */
export async function ask(
  connection: Connection,
  type: number,
  fields: readonly Field[],
  signal?: AbortSignal,
  onData?: (bytes: Uint8Array) => void,
): Promise<void> {
  try {
    await connection.request(type, encodeFields(fields), { signal, ...(onData === undefined ? {} : { onData }) });
  } catch (cause) {
    throw fileFailure(connection, cause);
  }
}

function fileFailure(connection: Connection, cause: unknown): unknown {
  if (cause instanceof WarrenError && cause.code === "guest_protocol") return connection.fail(cause);
  return refused(cause, FILE_MEANING, "file_error");
}

/** @throws {WarrenError} `file_not_found`, `file_error` */
export async function statFile(connection: Connection, path: string, signal?: AbortSignal): Promise<FileInfo> {
  const records: FileRecord[] = [];
  const onData = (bytes: Uint8Array) => void records.push(...decodeFileRecords(bytes));
  await ask(connection, ASK.STAT, [[TAG.PATH, path]], signal, onData);
  const [record] = records;
  if (record === undefined || records.length > 1) throw connection.fail(violation("not one record for one file"));
  return fileInfo(record, path);
}

/** Entries by the bytes of their names. @throws {WarrenError} `file_not_found`, `file_error` */
export async function listFiles(connection: Connection, path: string, signal?: AbortSignal): Promise<FileInfo[]> {
  const records: FileRecord[] = [];
  const onData = (bytes: Uint8Array): void => {
    records.push(...decodeFileRecords(bytes));
    if (records.length <= LIMITS.directoryEntries) return;
    throw new WarrenError("file_error", `${path} has more than ${LIMITS.directoryEntries} entries`);
  };
  await ask(connection, ASK.LIST, [[TAG.PATH, path]], signal, onData);
  records.sort((a, b) => Buffer.compare(a.name, b.name));
  const prefix = path.endsWith("/") ? path : `${path}/`;
  return records.map((record) => fileInfo(record, prefix + new TextDecoder().decode(record.name)));
}

/** A regular file's bytes, or a range; the guest is read as slowly as the reader reads. */
export async function* readBytes(
  connection: Connection,
  path: string,
  range: { readonly offset?: number | undefined; readonly length?: number | undefined },
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const fields: Field[] = [[TAG.PATH, path]];
  if (range.offset !== undefined) fields.push([TAG.OFFSET, range.offset]);
  if (range.length !== undefined) fields.push([TAG.LENGTH, range.length]);
  const call = connection.open();
  let left = range.length ?? Number.POSITIVE_INFINITY;
  try {
    await call.send(ASK.GET, encodeFields(fields));
    for (;;) {
      const answer = await call.next(connection.within(LIMITS.guestRequestMs, signal));
      if (answer.kind !== "data") {
        settled(answer, SAY.DONE);
        return;
      }
      left -= answer.bytes.length;
      if (answer.type !== SAY.CHUNK || left < 0) throw violation("more of a file than was asked for");
      yield answer.bytes;
    }
  } catch (cause) {
    throw fileFailure(connection, cause);
  } finally {
    call.cancel();
  }
}

/**
 * Writes a whole file, atomically; the caller's pieces are taken as the guest takes them.
 * @throws {WarrenError} `file_error` – and nothing of it stays.
 */
export async function writeBytes(
  connection: Connection,
  path: string,
  mode: number | undefined,
  body: Body,
  signal?: AbortSignal,
): Promise<void> {
  const fields: Field[] = [[TAG.PATH, path]];
  if (mode !== undefined) fields.push([TAG.MODE, mode]);
  const whole = inline(body);
  if (whole !== null) {
    await ask(connection, ASK.PUT, [...fields, [TAG.CODE, whole]], signal);
    return;
  }
  const call = connection.open();
  try {
    await call.send(ASK.PUT, encodeFields(fields));
    for await (const piece of pieces(body)) {
      if (!(await call.pour(piece, connection.within(LIMITS.guestRequestMs, signal)))) break;
    }
    if (!call.ended) await call.send(ASK.DATA, NO_BYTES);
    settled(await call.next(connection.within(LIMITS.guestRequestMs, signal)), SAY.DONE);
  } catch (cause) {
    throw fileFailure(connection, cause);
  } finally {
    call.cancel();
  }
}
