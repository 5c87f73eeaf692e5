/** TCP ports of the fake guest: who listens, as its kernel would tell it, and what is said to whom. */
import type { Killed } from "./shell.ts";

/** A connection's other end: takes what the host says and answers; an empty piece is the host's end. */
export interface FakePeer {
  readonly take: (bytes: Uint8Array) => void;
}

/** What a listening program makes of a connection. `say` sends to the host, `end` is the program's own end. */
export type Accept = (say: (bytes: Uint8Array) => void, end: () => void) => FakePeer;

const TABLE = "/proc/net/tcp";
const HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

export class FakePorts {
  readonly #listening = new Map<number, Accept>();

  /** Listens on 127.0.0.1 until it is killed. @throws the kill's reason */
  listen(port: number, accept: Accept, killed: AbortSignal): Promise<never> {
    this.#listening.set(port, accept);
    return new Promise((_, reject) => {
      const stop = () => {
        this.#listening.delete(port);
        reject(killed.reason as Killed);
      };
      if (killed.aborted) stop();
      else killed.addEventListener("abort", stop, { once: true });
    });
  }

  accept(port: number): Accept | null {
    return this.#listening.get(port) ?? null;
  }

  /** The kernel's table, when `path` is its; else null. */
  file(path: string): Uint8Array | null {
    if (path !== TABLE) return null;
    const hex = (port: number) => port.toString(16).toUpperCase().padStart(4, "0");
    const lines = [...this.#listening.keys()].map((port, i) => `${i}: 0100007F:${hex(port)} 00000000:0000 0A \n`);
    return new TextEncoder().encode(HEAD + lines.join(""));
  }
}

/** Sends back what it gets, and ends when the host does. */
export const echo: Accept = (say, end) => ({ take: (bytes) => (bytes.length === 0 ? end() : say(bytes)) });
