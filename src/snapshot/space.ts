/** What a file takes of the disk. */
import { statSync } from "node:fs";

/** Bytes allocated to a file. */
export function ownBytes(path: string): number {
  return statSync(path).blocks * 512;
}
