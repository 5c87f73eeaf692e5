/**
 * What WebSockets may take of the server's memory: the bytes that wait for a program or a client that reads slowly, and how many
 * sockets are open, of each account and, for bytes, of all. The runtime cannot be told to read no more, so who is over is refused.
 */
import { assert } from "../../base/assert.ts";
import { WarrenError } from "../../errors.ts";
import { BOUNDS } from "../bounds.ts";

interface Taken {
  bytes: number;
  sockets: number;
}

/** Of one holder: what it has waiting. */
export interface Charge {
  /** One more piece of so many bytes waits. False: there is no room, and it is not counted. */
  take(bytes: number): boolean;
  /** A piece that was taken waits no more. */
  release(bytes: number): void;
  /** So many bytes wait, whatever waited before. False: there is no room for more, and nothing has changed. */
  level(bytes: number): boolean;
  /** Nothing waits, now or later. Twice is fine. */
  close(): void;
}

export class Waiting {
  readonly #accounts = new Map<string, Taken>();
  #bytes = 0;

  /** Bytes that wait, of all accounts. */
  get bytes(): number {
    return this.#bytes;
  }

  /** A socket is open until the result is called; twice is fine. @throws {WarrenError} `rate_limited` – there are too many */
  open(account: string): () => void {
    const taken = this.#of(account);
    if (taken.sockets >= BOUNDS.socketsPerAccount) {
      const says = `the account ${account} has ${taken.sockets} WebSockets open, as many as it may: close one first`;
      throw new WarrenError("rate_limited", says, { details: { limit: BOUNDS.socketsPerAccount } });
    }
    taken.sockets += 1;
    this.#accounts.set(account, taken);
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      taken.sockets -= 1;
      this.#forget(account, taken);
    };
  }

  charge(account: string): Charge {
    let [held, isClosed] = [0, false];
    const level = (bytes: number): boolean => {
      const more = isClosed ? -held : bytes - held;
      if (!this.#move(account, more)) return false;
      held += more;
      return true;
    };
    return {
      take: (bytes) => level(held + bytes + BOUNDS.waitingPieceBytes),
      release: (bytes) => void level(Math.max(0, held - bytes - BOUNDS.waitingPieceBytes)),
      level,
      close: () => {
        isClosed = true;
        level(0);
      },
    };
  }

  #move(account: string, more: number): boolean {
    const taken = this.#of(account);
    const isOver =
      taken.bytes + more > BOUNDS.waitingBytesPerAccount || this.#bytes + more > BOUNDS.waitingBytesPerServer;
    if (more > 0 && isOver) return false;
    taken.bytes += more;
    this.#bytes += more;
    assert(taken.bytes >= 0 && this.#bytes >= 0, "no more is released than was taken");
    this.#accounts.set(account, taken);
    this.#forget(account, taken);
    return true;
  }

  #of(account: string): Taken {
    return this.#accounts.get(account) ?? { bytes: 0, sockets: 0 };
  }

  #forget(account: string, { bytes, sockets }: Taken): void {
    if (bytes === 0 && sockets === 0) this.#accounts.delete(account);
  }
}
