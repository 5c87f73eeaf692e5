/** Rows that are WebSockets. */
import type { SocketCall } from "../dispatch.ts";
import type { AppParts } from "../parts.ts";
import { dial } from "./dial.ts";
import { execCall } from "./exec.ts";
import { terminalCall } from "./terminal.ts";

export function socketCalls(parts: AppParts): ReadonlyMap<string, SocketCall> {
  return new Map([
    ["dial", dial],
    ["execSocket", execCall(parts)],
    ["terminal", terminalCall(parts)],
  ]);
}
