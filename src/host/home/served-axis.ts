/**
 * The axis of time of what is kept on disk, or ends with its server: `HOME/server/axis.json`. On one boot it is the monotonic clock
 * plus a constant, through any number of servers, so that a wall clock that jumps while none is there is not billed either. A
 * reboot has only the wall clock to tell how long it took; the axis goes on by that, never before where it was. And the file's
 * last instant is the server's own proof of life.
 */
import { closeSync, constants, openSync, readFileSync, writeSync } from "node:fs";
import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { hasCode } from "../../../ffi/native.ts";
import type { Clock } from "../../base/clock.ts";

const Kept = Type.Object({ hostBootId: Type.String(), axisMs: Type.Number(), servedMs: Type.Number() });
type Kept = Static<typeof Kept>;

export interface ServedAxis {
  /** Added to this boot's monotonic clock. */
  readonly axisMs: number;
  /** On the axis: when the last server here is known to have lived; null: there was none, or it is not known. */
  readonly servedMs: number | null;
  /** This server lives. */
  beat(): void;
}

/** What a power failure left empty says nothing. */
function read(path: string): Kept | null {
  try {
    const kept: unknown = JSON.parse(readFileSync(path, "utf8"));
    return Value.Check(Kept, kept) ? kept : null;
  } catch (error) {
    if (error instanceof SyntaxError || hasCode(error, "ENOENT")) return null;
    throw error;
  }
}

/** Of the file, always: it is written over in one write, which a kill does not tear. A rename would wait for the disk, 2.5 ms. */
const BYTES = 256;

/** Where the disk is full, the last instant has to do. */
function write(path: string, kept: Kept): void {
  try {
    const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT, 0o600);
    try {
      writeSync(fd, JSON.stringify(kept).padEnd(BYTES), 0);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (!hasCode(error, "ENOSPC", "EDQUOT", "EROFS", "EIO")) throw error;
  }
}

/** By one server at a time, in a folder that is there. */
export function openAxis(path: string, hostBootId: string, clock: Clock): ServedAxis {
  const kept = read(path);
  const isSameBoot = kept?.hostBootId === hostBootId;
  const axisMs = isSameBoot ? kept.axisMs : Math.max(clock.wallMs(), kept?.servedMs ?? 0) - clock.monotonicMs();
  const beat = () => write(path, { hostBootId, axisMs, servedMs: clock.monotonicMs() + axisMs });
  return { axisMs, servedMs: kept?.servedMs ?? null, beat };
}
