/**
 * Frames of a dialled connection, which is a WebSocket: binary ones are the bytes, each way; text ones say the rest, in JSON.
 * The server says `connected` when the port has answered, or else an error, and then closes. Each side says `end` when its
 * direction has ended; the server closes with 1000 after its own. Anything that closes it earlier is a connection that was reset.
 * Neither side can tell the other's socket to wait, so each sends at most {@link DIAL_WINDOW_BYTES} that the other has not said to
 * have taken: `{"took": 65536}` says that whoever reads there has so many more bytes.
 */
import { isRecord } from "./derive.ts";

/** Far more than is under way between two machines, far less than hurts. */
export const DIAL_WINDOW_BYTES = 1024 * 1024;

export const CONNECTED = JSON.stringify({ connected: true });
export const END = JSON.stringify({ end: true });
export function took(bytes: number): string {
  return JSON.stringify({ took: bytes });
}

export type DialText =
  | { readonly kind: "connected" }
  | { readonly kind: "end" }
  | { readonly kind: "took"; readonly bytes: number }
  | { readonly kind: "error"; readonly body: unknown }
  | { readonly kind: "unknown" };

export function dialText(text: string): DialText {
  let said: unknown;
  try {
    said = JSON.parse(text);
  } catch {
    return { kind: "unknown" };
  }
  if (!isRecord(said)) return { kind: "unknown" };
  const { error, end, connected, took: bytes } = said;
  if (typeof error === "string") return { kind: "error", body: said };
  if (end === true) return { kind: "end" };
  if (typeof bytes === "number" && Number.isSafeInteger(bytes) && bytes > 0) return { kind: "took", bytes };
  return connected === true ? { kind: "connected" } : { kind: "unknown" };
}

/** What one side has sent and the other not taken; whoever sends waits for room. */
export class DialWindow {
  #unread = 0;
  #isOver = false;
  #more: () => void = () => undefined;

  /** Bytes that may be sent now: at least one; 0: the connection is over. */
  async room(): Promise<number> {
    while (!this.#isOver && this.#unread >= DIAL_WINDOW_BYTES)
      await new Promise<void>((resolve) => {
        this.#more = resolve;
      });
    return this.#isOver ? 0 : DIAL_WINDOW_BYTES - this.#unread;
  }

  sent(bytes: number): void {
    this.#unread += bytes;
  }

  taken(bytes: number): void {
    this.#unread = Math.max(0, this.#unread - bytes);
    this.#more();
  }

  /** Nobody waits any more. */
  over(): void {
    this.#isOver = true;
    this.#more();
  }
}
