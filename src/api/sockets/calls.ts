/** Rows that are WebSockets. */
import type { SocketCall } from "../dispatch.ts";
import type { AppParts } from "../parts.ts";
import type { Waiting } from "../streams/budget.ts";
import { dial } from "./dial.ts";
import { execCall } from "./exec.ts";
import { terminalCall } from "./terminal.ts";
import { placed } from "./upgrade.ts";

export function socketCalls(parts: AppParts, waiting: Waiting): ReadonlyMap<string, SocketCall> {
  return new Map([
    ["dial", placed(waiting, dial)],
    ["execSocket", placed(waiting, execCall(parts))],
    ["terminal", placed(waiting, terminalCall(parts))],
  ]);
}
