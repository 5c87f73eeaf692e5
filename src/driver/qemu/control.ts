/**
 * The host's half of ffi/preload: one request with a descriptor, one answer, over a connection of its own. The answer comes
 * from inside the VMM and is hostile input: bounded, and checked before it is believed to describe anything.
 */
import type { Clock } from "../../base/clock.ts";
import { WarrenError } from "../../errors.ts";
import { askWithDescriptor } from "../../host/jail/sockets.ts";
import { LIMITS } from "../../limits.ts";
import type { Captured, Run } from "../driver.ts";
import { connectedLink } from "../socket.ts";
import { CONTROL_SOCKET } from "./descriptors.ts";

/** As in ffi/preload/control.c. */
const CAPTURE = 1;
const PLACE = 2;
const HEAD_BYTES = 24;
const RUN_BYTES = 16;
/** MAX_RUNS of ffi/preload/capture.c. */
const MAX_RUNS = 8192;
const PAGE = 4096n;

export interface ControlParts {
  readonly socketDir: string;
  readonly clock: Clock;
}

/** Makes `fd` the VMM's descriptor `number`. @throws {WarrenError} `driver_failed` */
export async function place(parts: ControlParts, number: number, fd: number): Promise<void> {
  const { result } = parseAnswer(await ask(parts, PLACE, number, fd), 0);
  if (result !== 0) throw new WarrenError("driver_failed", `the VMM could not take a descriptor: errno ${-result}`);
}

/** @throws {WarrenError} `driver_failed` – no answer, or none that makes sense: what the guest then stands on is unknown */
export async function capture(
  parts: ControlParts,
  fd: number,
  sizeBytes: number,
  since: "last" | "base",
): Promise<Captured> {
  const { result, runs } = parseAnswer(await ask(parts, CAPTURE, since === "base" ? 1 : 0, fd), sizeBytes);
  if (result === 0) return { runs, error: null };
  const room = result === -12 || result === -28; // ENOMEM, ENOSPC
  const says = `the guest's memory could not be written: errno ${-result}`;
  return { runs, error: new WarrenError(room ? "capacity_exhausted" : "driver_failed", says) };
}

async function ask(parts: ControlParts, what: number, number: number, fd: number): Promise<Uint8Array<ArrayBuffer>> {
  const request = new Uint8Array(8);
  new DataView(request.buffer).setUint32(0, what, true);
  new DataView(request.buffer).setUint32(4, number, true);
  let socket: number;
  try {
    socket = askWithDescriptor(parts.socketDir, CONTROL_SOCKET, request, fd);
  } catch (cause) {
    throw new WarrenError("driver_failed", "the VMM takes no requests", { cause });
  }
  const link = await connectedLink(socket);
  const cancel = parts.clock.after(LIMITS.captureMs, () => link.close());
  try {
    const chunks: Uint8Array[] = [];
    let length = 0;
    for await (const chunk of link.bytes) {
      chunks.push(chunk);
      length += chunk.length;
      if (length > HEAD_BYTES + MAX_RUNS * RUN_BYTES)
        throw new WarrenError("driver_failed", "the VMM answered too much");
    }
    return new Uint8Array(Buffer.concat(chunks));
  } finally {
    cancel();
    link.close();
  }
}

/** Pure. @throws {WarrenError} `driver_failed` – runs that are cut short, out of order, over each other or beyond `sizeBytes` */
export function parseAnswer(
  bytes: Uint8Array<ArrayBuffer>,
  sizeBytes: number,
): { readonly result: number; readonly runs: readonly Run[] } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const whole =
    bytes.length >= HEAD_BYTES && bytes.length - HEAD_BYTES === Number(view.getBigUint64(8, true)) * RUN_BYTES;
  if (!whole) throw new WarrenError("driver_failed", `the VMM's answer of ${bytes.length} bytes is cut short`);
  const result = Number(view.getBigInt64(0, true));
  if (result > 0 || result < -4095) throw new WarrenError("driver_failed", `the VMM answered ${result}`);
  const runs: Run[] = [];
  let end = 0n;
  for (let at = HEAD_BYTES; at < bytes.length; at += RUN_BYTES) {
    const offset = view.getBigUint64(at, true);
    const length = view.getBigUint64(at + 8, true);
    const sound = offset >= end && length > 0n && offset % PAGE === 0n && length % PAGE === 0n;
    end = offset + length;
    if (!sound || end > BigInt(sizeBytes)) {
      throw new WarrenError("driver_failed", "the VMM named memory that the guest does not have");
    }
    runs.push({ offset: Number(offset), length: Number(length) });
  }
  return { result, runs };
}
