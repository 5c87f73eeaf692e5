/** A sandbox as a row of `warren ls`, escaped. Pure. */

import { escapeLine } from "../../base/escape.ts";
import type { SandboxInfo } from "../../contract/routes/sandboxes.ts";
import { duration } from "./format.ts";

export function rowOf(info: SandboxInfo, nowMs: number): string[] {
  const metadata = Object.entries(info.metadata).map(([name, value]) => `${name}=${value}`);
  return [
    info.id,
    info.template,
    String(info.cpu),
    `${info.memoryMb} MiB`,
    info.state,
    duration(Math.max(0, nowMs - Date.parse(info.createdAt))),
    info.expiresAt === null ? "-" : duration(Math.max(0, Date.parse(info.expiresAt) - nowMs)),
    info.detached ? "detached" : String(info.ownerPid),
    metadata.map(escapeLine).join(" "),
  ];
}
