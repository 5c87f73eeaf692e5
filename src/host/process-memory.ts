/** What the kernel says of a VMM's memory. */
import { readFileSync } from "node:fs";
import { hasCode } from "../../ffi/native.ts";

/** Of the one child of a jail's first process; null when it is gone, or this kernel has no `smaps_rollup`. */
export function processMemory(jailPid: number): { readonly pssBytes: number; readonly rssBytes: number } | null {
  try {
    const vmm = readFileSync(`/proc/${jailPid}/task/${jailPid}/children`, "utf8").trim().split(" ")[0] ?? "";
    if (vmm === "") return null;
    const text = readFileSync(`/proc/${vmm}/smaps_rollup`, "utf8");
    const bytes = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(text)?.[1] ?? 0) * 1024;
    return { pssBytes: bytes("Pss"), rssBytes: bytes("Rss") };
  } catch (error) {
    if (hasCode(error, "ENOENT", "ESRCH", "EACCES")) return null;
    throw error;
  }
}
