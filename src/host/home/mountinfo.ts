/** /proc/self/mountinfo, typed: what is mounted where, for finding cgroups and our own data mount. */
import { readFileSync } from "node:fs";

export interface Mount {
  /** Path inside the file system that is mounted here: "/" unless a part of it is. */
  readonly root: string;
  readonly at: string;
  readonly type: string;
  readonly source: string;
  readonly superOptions: readonly string[];
}

/** Blanks and backslashes travel as octal. */
function plain(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** Pure; in the order of mounting, so the last one at a path is the visible one. */
export function parseMounts(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split("\n")) {
    const [before, after] = line.split(" - ");
    const left = before?.split(" ") ?? [];
    const right = after?.split(" ") ?? [];
    if (left[3] === undefined || left[4] === undefined || right[0] === undefined) continue;
    mounts.push({
      root: plain(left[3]),
      at: plain(left[4]),
      type: right[0],
      source: plain(right[1] ?? ""),
      superOptions: (right[2] ?? "").split(","),
    });
  }
  return mounts;
}

export function readMounts(): Mount[] {
  return parseMounts(readFileSync("/proc/self/mountinfo", "utf8"));
}
