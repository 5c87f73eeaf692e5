/** Two ends of a byte stream in memory, as a virtio-serial port has: chunks in order, a bounded queue, a hang-up both ways. */
import { WarrenError } from "../../errors.ts";
import type { Link } from "../driver.ts";

const QUEUED_CHUNKS = 16;

/** One direction. */
class Lane {
  readonly #chunks: Uint8Array[] = [];
  #closed = false;
  #changed = Promise.withResolvers<void>();

  /** @throws {WarrenError} `sandbox_lost` – the other end is gone. */
  async write(bytes: Uint8Array): Promise<void> {
    while (!this.#closed && this.#chunks.length >= QUEUED_CHUNKS) await this.#changed.promise;
    if (this.#closed) throw new WarrenError("sandbox_lost", "the guest port is closed");
    this.#chunks.push(bytes.slice());
    this.#wake();
  }

  close(): void {
    this.#closed = true;
    this.#wake();
  }

  async *read(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#wake();
        yield chunk;
      } else if (this.#closed) return;
      else await this.#changed.promise;
    }
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

/** A connected pair; closing either end closes both. */
export function pipe(): { readonly host: Link; readonly guest: Link } {
  const up = new Lane();
  const down = new Lane();
  const close = () => {
    up.close();
    down.close();
  };
  return {
    host: { write: (bytes) => down.write(bytes), bytes: up.read(), close },
    guest: { write: (bytes) => up.write(bytes), bytes: down.read(), close },
  };
}
