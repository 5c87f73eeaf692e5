/**
 * How long a connection may be silent: one that has not sent a whole request, or waits for a next one, is closed after a
 * while; one whose request is being worked on never is, however long a command takes.
 */
import type { ApiServer } from "../api/parts.ts";
import type { Clock } from "../base/clock.ts";

/** Seconds of silence. An event stream says something every 15. */
export const IDLE_SECONDS = 120;
const RENEW_MS = 30_000;

export class Patience {
  readonly #clock: Clock;
  readonly #waiting = new Set<Request>();
  #server: ApiServer | null = null;
  #cancel: (() => void) | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Works on a request, for as long as that takes. */
  async during<T>(request: Request, server: ApiServer, work: () => T | Promise<T>): Promise<T> {
    this.#server = server;
    this.#waiting.add(request);
    this.#cancel ??= this.#again();
    try {
      return await work();
    } finally {
      this.#waiting.delete(request);
    }
  }

  #again(): () => void {
    const renew = (): void => {
      // Without an end: what is let in is answered so anyway, and another number would cut off a stream that begins meanwhile.
      for (const request of this.#waiting) this.#server?.timeout(request, 0);
      this.#cancel = this.#waiting.size === 0 ? null : this.#again();
    };
    return this.#clock.after(RENEW_MS, renew, { background: true });
  }
}
