/** Rows that are WebSockets. */
import type { SocketCall } from "../dispatch.ts";
import type { AppParts } from "../parts.ts";

export function socketCalls(_parts: AppParts): ReadonlyMap<string, SocketCall> {
  return new Map();
}
