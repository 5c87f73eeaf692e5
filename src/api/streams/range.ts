/** `Range` of RFC 9110, for files: one range of bytes. Whatever else it says is ignored, as the standard wants, and all is sent. */
import { WarrenError } from "../../errors.ts";

export interface ByteRange {
  /** First and last byte, both included. */
  readonly first: number;
  readonly last: number;
}

/**
 * Which bytes of so many are asked for; null for all of them.
 * @throws {WarrenError} `range_not_satisfiable` – there is none of these bytes
 */
export function rangeOf(header: string | null, sizeBytes: number): ByteRange | null {
  const [, from, to] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.replaceAll(" ", "") ?? "") ?? [];
  if (from === undefined || to === undefined || (from === "" && to === "")) return null;
  const first = from === "" ? Math.max(0, sizeBytes - Number(to)) : Number(from);
  const last = from === "" || to === "" ? sizeBytes - 1 : Math.min(Number(to), sizeBytes - 1);
  if (from !== "" && to !== "" && Number(to) < Number(from)) return null;
  if (first >= sizeBytes || (from === "" && Number(to) === 0))
    throw new WarrenError("range_not_satisfiable", `the file has ${sizeBytes} bytes`, { details: { sizeBytes } });
  return { first, last };
}
