/** Hears of changed keys on a connection of its own, and listens again whenever that has broken. */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { CHANNEL, type Client, connect, leave, within } from "./client.ts";

const ANSWER_MS = 12_000;
/** Between two tries to listen again, at first and at most. */
const RETRY_MS = 200;
const RETRY_MAX_MS = 5_000;

export interface ListenerParts {
  readonly url: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Something has changed, or may have while nobody listened. */
  readonly told: () => void;
}

export class Listener implements Disposable {
  readonly #parts: ListenerParts;
  readonly #closed = new AbortController();
  #client: Client | null = null;

  constructor(parts: ListenerParts) {
    this.#parts = parts;
  }

  /** @throws {WarrenError} `store_unavailable` */
  async listen(): Promise<void> {
    const { url, clock, told } = this.#parts;
    const closed = (): void => {
      if (this.#client === client) void this.#again(client);
    };
    const client = connect(url, { connections: 1, statementMs: ANSWER_MS, listens: { told, closed } });
    try {
      await within(ANSWER_MS, clock, client.unsafe(`listen ${CHANNEL}`));
    } catch (cause) {
      leave(client);
      throw cause;
    }
    if (this.#closed.signal.aborted) leave(client);
    else this.#client = client;
  }

  [Symbol.dispose](): void {
    this.#closed.abort();
    if (this.#client !== null) leave(this.#client);
    this.#client = null;
  }

  async #again(broken: Client): Promise<void> {
    const { clock, log, told } = this.#parts;
    this.#client = null;
    leave(broken);
    told();
    for (let delayMs = RETRY_MS; !this.#closed.signal.aborted; delayMs = Math.min(2 * delayMs, RETRY_MAX_MS)) {
      try {
        await this.listen();
        told();
        return;
      } catch (cause) {
        const why = cause instanceof Error ? cause.cause : cause;
        log.debug("not listening for changed keys yet", { cause: String(why) });
        await clock.sleep(delayMs, this.#closed.signal).catch(() => undefined); // closed: the loop ends
      }
    }
  }
}
