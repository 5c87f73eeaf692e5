/**
 * Frames of a dialled connection, which is a WebSocket: binary ones are the bytes, each way; text ones say the rest, in JSON.
 * The server says `connected` when the port has answered, or else an error, and then closes. Each side says `end` when its
 * direction has ended; the server closes with 1000 after both. Anything that closes it earlier is a connection that was reset.
 */
import { isRecord } from "./derive.ts";

export const CONNECTED = JSON.stringify({ connected: true });
export const END = JSON.stringify({ end: true });

export type DialText =
  | { readonly kind: "connected" }
  | { readonly kind: "end" }
  | { readonly kind: "error"; readonly body: unknown }
  /** Of another version. */
  | { readonly kind: "unknown" };

export function dialText(text: string): DialText {
  let said: unknown;
  try {
    said = JSON.parse(text);
  } catch {
    return { kind: "unknown" };
  }
  if (!isRecord(said)) return { kind: "unknown" };
  if (typeof said["error"] === "string") return { kind: "error", body: said };
  if (said["end"] === true) return { kind: "end" };
  return said["connected"] === true ? { kind: "connected" } : { kind: "unknown" };
}
