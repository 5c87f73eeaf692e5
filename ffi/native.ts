/**
 * The only caller of native code. Every argument is checked against the range of its C type before it crosses, because
 * Bun's FFI converts silently (`close(undefined)` closes descriptor 0); every failure becomes a `NativeError`.
 * Memory that C sees is made by `memory` and stays referenced for the whole, synchronous call.
 */
import { constants } from "node:os";
import { addressOf, openLibc, openOurs, type Raw } from "./open.ts";
import { C_TYPES, LIBC, OURS, type Prototype } from "./symbols.ts";

const NAMES = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

/** "ENOENT" of 2; null of 0, which is none. */
export function errnoName(errno: number): string | null {
  return errno === 0 ? null : (NAMES.get(errno) ?? `errno ${errno}`);
}

/** A system call that failed: which, with what errno, on what. */
export class NativeError extends Error {
  override readonly name = "NativeError";
  /** Such as "ENOENT". */
  readonly code: string;
  readonly errno: number;
  readonly call: string;

  constructor(call: string, errno: number, on = "") {
    const code = errnoName(errno) ?? "no error";
    super(on === "" ? `${call}: ${code}` : `${call}: ${code} (${on})`);
    this.call = call;
    this.errno = errno;
    this.code = code;
  }
}

/** True for a failed call with one of these codes, of this file or of node:fs. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}

type CName = keyof typeof C_TYPES;
type Given<T extends CName> = (typeof C_TYPES)[T]["takes"] extends "number"
  ? number
  : (typeof C_TYPES)[T]["takes"] extends "text"
    ? string | null
    : Uint8Array | null;
type Arguments<A extends readonly CName[]> = { -readonly [I in keyof A]: Given<A[I]> };

/** `length` zeroed bytes that C may see: on a buffer of their own, which never moves. */
export function memory(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(length));
}

/** Text as C takes it: UTF-8, ended by 0. @throws {TypeError} when it holds a 0 itself, which C would cut silently. */
export function cText(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) throw new TypeError("text for C may not hold a zero byte");
  const bytes = memory(Buffer.byteLength(text) + 1);
  new TextEncoder().encodeInto(text, bytes);
  return bytes;
}

/** An address for a nested structure; taken and used within `holding`. */
export function address(bytes: Uint8Array<ArrayBuffer>): bigint {
  if (bytes.byteLength === 0) throw new TypeError("empty memory has no address");
  return addressOf(bytes);
}

const held = new Set<readonly Uint8Array[]>();

/** Runs `job` while `buffers`, and so the addresses taken of them, are sure to be alive: reachable from this module. */
export function holding<T>(buffers: readonly Uint8Array[], job: () => T): T {
  held.add(buffers);
  try {
    return job();
  } finally {
    held.delete(buffers);
  }
}

function checked(call: string, at: number, type: CName, value: unknown): number | Uint8Array | null {
  const rule = C_TYPES[type];
  if (rule.takes === "number") {
    if (typeof value !== "number" || !Number.isInteger(value) || value < rule.min || value > rule.max) {
      throw new TypeError(`${call}: argument ${at} is no ${type}: ${String(value)}`);
    }
    return value;
  }
  if (value === null) return null;
  if (rule.takes === "text" && typeof value === "string") return cText(value);
  if (rule.takes === "bytes" && value instanceof Uint8Array) {
    void value.buffer; // a small typed array moves its storage when `buffer` is first read: do it before C sees it
    return value;
  }
  throw new TypeError(`${call}: argument ${at} is no ${type}`);
}

function convert(call: string, prototype: Prototype, args: readonly unknown[]): (number | Uint8Array | null)[] {
  if (args.length !== prototype.args.length) throw new TypeError(`${call}: takes ${prototype.args.length} arguments`);
  return prototype.args.map((type, i) => checked(call, i, type, args[i]));
}

let libc: ReturnType<typeof openLibc> | null = null;

/**
 * Calls libc.
 * @returns what it returned, never negative
 * @throws {NativeError} when it failed; {TypeError} when an argument is out of its type's range
 */
export function call<N extends keyof typeof LIBC>(name: N, ...args: Arguments<(typeof LIBC)[N]["args"]>): number {
  libc ??= openLibc();
  const converted = convert(name, LIBC[name], args);
  // SAFETY: the table was checked against the headers, the arguments against the table; `converted` holds every buffer
  // until the call is over, and nothing runs between it and the read of errno.
  const result = (libc.functions[name] as Raw)(...converted);
  if (result < 0) throw new NativeError(name, libc.errno());
  return Number(result);
}

/** For libc's socket address and the like: calls and says what it was about. */
export function callOn<N extends keyof typeof LIBC>(
  on: string,
  name: N,
  ...args: Arguments<(typeof LIBC)[N]["args"]>
): number {
  try {
    return call(name, ...args);
  } catch (error) {
    if (error instanceof NativeError) throw new NativeError(name, error.errno, on);
    throw error;
  }
}

let ours: Readonly<Record<string, Raw>> | null = null;

/** Calls our C. @returns what it returned: negative is -errno, for the caller to explain. */
export function callOurs<N extends keyof typeof OURS>(name: N, ...args: Arguments<(typeof OURS)[N]["args"]>): number {
  ours ??= openOurs(
    (text) => call("memfd_create", text, 1),
    (fd) => void call("close", fd),
  );
  const converted = convert(name, OURS[name], args);
  // SAFETY: as above; our C allocates nothing, keeps no pointer after it returns and calls nothing back.
  return Number((ours[name] as Raw)(...converted));
}
