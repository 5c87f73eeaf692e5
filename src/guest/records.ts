/**
 * The records inside CHUNK payloads: directory entries, processes and changes. A record is never split over two chunks. Every
 * length is checked against its record, every record against its chunk; unknown trailing bytes of a record are skipped.
 */
import { violation } from "./codec.ts";
import { exact } from "./fields.ts";

export const FILE_TYPES = ["file", "directory", "symlink", "other"] as const;

export interface FileRecord {
  readonly type: (typeof FILE_TYPES)[number];
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  /** Names are bytes, not text. */
  readonly name: Uint8Array;
  /** Empty unless a symlink. */
  readonly target: Uint8Array;
}

export interface ProcessRecord {
  readonly process: number;
  readonly pid: number;
  readonly background: boolean;
  readonly running: boolean;
  readonly exitCode: number;
  /** 0 when no signal ended it. */
  readonly signal: number;
  readonly command: Uint8Array;
}

export const CHANGES = ["created", "modified", "removed", "attributes", "overflow"] as const;

/** One record of a WATCH. */
export interface ChangeRecord {
  readonly kind: (typeof CHANGES)[number];
  readonly directory: boolean;
  /** Below what is watched; empty: that itself. Bytes, not text. */
  readonly path: Uint8Array;
}

const CHANGE_FIXED_BYTES = 1 + 1;
const FILE_FIXED_BYTES = 1 + 4 + 4 + 4 + 8 + 8;
const PROCESS_FIXED_BYTES = 8 + 4 + 1 + 4 + 1;

/** Cuts a chunk into the bodies of its records. */
function* bodies(chunk: Uint8Array): Generator<DataView> {
  const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
  let at = 0;
  while (at < chunk.length) {
    if (chunk.length - at < 4) throw violation("a record without its length");
    const length = view.getUint32(at, true);
    at += 4;
    if (length > chunk.length - at) throw violation("a record runs past its chunk");
    yield new DataView(chunk.buffer, chunk.byteOffset + at, length);
    at += length;
  }
}

/** `u16 length, bytes` at `at`; the second value is where the next field starts. */
function counted(body: DataView, at: number): readonly [Uint8Array, number] {
  if (body.byteLength - at < 2) throw violation("a record is too short");
  const length = body.getUint16(at, true);
  const start = at + 2;
  if (length > body.byteLength - start) throw violation("a name runs past its record");
  return [new Uint8Array(body.buffer, body.byteOffset + start, length), start + length];
}

/** @throws {WarrenError} `guest_protocol` – a record is malformed. */
export function decodeFileRecords(chunk: Uint8Array): FileRecord[] {
  const records: FileRecord[] = [];
  for (const body of bodies(chunk)) {
    if (body.byteLength < FILE_FIXED_BYTES) throw violation("a file record is too short");
    const type = FILE_TYPES[body.getUint8(0) - 1];
    if (type === undefined) throw violation("a file record of unknown type");
    const [name, next] = counted(body, FILE_FIXED_BYTES);
    const [target] = counted(body, next);
    records.push({
      type,
      mode: body.getUint32(1, true),
      uid: body.getUint32(5, true),
      gid: body.getUint32(9, true),
      sizeBytes: exact(body.getBigUint64(13, true)),
      mtimeNs: body.getBigInt64(21, true),
      name,
      target,
    });
  }
  return records;
}

/** @throws {WarrenError} `guest_protocol` – a record is malformed. */
export function decodeChangeRecords(chunk: Uint8Array): ChangeRecord[] {
  const records: ChangeRecord[] = [];
  for (const body of bodies(chunk)) {
    if (body.byteLength < CHANGE_FIXED_BYTES) throw violation("a change record is too short");
    const kind = CHANGES[body.getUint8(0) - 1];
    if (kind === undefined) throw violation("a change of unknown kind");
    const [path] = counted(body, CHANGE_FIXED_BYTES);
    records.push({ kind, directory: (body.getUint8(1) & 1) !== 0, path });
  }
  return records;
}

/** @throws {WarrenError} `guest_protocol` – a record is malformed. */
export function decodeProcessRecords(chunk: Uint8Array): ProcessRecord[] {
  const records: ProcessRecord[] = [];
  for (const body of bodies(chunk)) {
    if (body.byteLength < PROCESS_FIXED_BYTES) throw violation("a process record is too short");
    const [command] = counted(body, PROCESS_FIXED_BYTES);
    const flags = body.getUint8(12);
    records.push({
      process: exact(body.getBigUint64(0, true)),
      pid: body.getUint32(8, true),
      background: (flags & 1) !== 0,
      running: (flags & 2) !== 0,
      exitCode: body.getInt32(13, true),
      signal: body.getUint8(17),
      command,
    });
  }
  return records;
}

function body(fixedBytes: number, ...parts: readonly Uint8Array[]): { bytes: Uint8Array; view: DataView } {
  const length = fixedBytes + parts.reduce((sum, part) => sum + 2 + part.length, 0);
  const bytes = new Uint8Array(4 + length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, length, true);
  let at = 4 + fixedBytes;
  for (const part of parts) {
    view.setUint16(at, part.length, true);
    bytes.set(part, at + 2);
    at += 2 + part.length;
  }
  return { bytes, view };
}

/** The guest's side, for fakes and golden frames. */
export function encodeFileRecord(record: FileRecord): Uint8Array {
  const { bytes, view } = body(FILE_FIXED_BYTES, record.name, record.target);
  view.setUint8(4, FILE_TYPES.indexOf(record.type) + 1);
  view.setUint32(5, record.mode, true);
  view.setUint32(9, record.uid, true);
  view.setUint32(13, record.gid, true);
  view.setBigUint64(17, BigInt(record.sizeBytes), true);
  view.setBigInt64(25, record.mtimeNs, true);
  return bytes;
}

/** The guest's side, for fakes and golden frames. */
export function encodeProcessRecord(record: ProcessRecord): Uint8Array {
  const { bytes, view } = body(PROCESS_FIXED_BYTES, record.command);
  view.setBigUint64(4, BigInt(record.process), true);
  view.setUint32(12, record.pid, true);
  view.setUint8(16, (record.background ? 1 : 0) | (record.running ? 2 : 0));
  view.setInt32(17, record.exitCode, true);
  view.setUint8(21, record.signal);
  return bytes;
}

/** The guest's side, for fakes and golden frames. */
export function encodeChangeRecord(record: ChangeRecord): Uint8Array {
  const { bytes, view } = body(CHANGE_FIXED_BYTES, record.path);
  view.setUint8(4, CHANGES.indexOf(record.kind) + 1);
  view.setUint8(5, record.directory ? 1 : 0);
  return bytes;
}
