/**
 * Sandboxes that nobody uses: closed or put to sleep when no call, and no stream of one, was under way for as long as was
 * asked for. What runs in the guest by itself, background processes too, is no use. The process that made or woke a sandbox
 * sees to it, as long as that lives; a detached one that another process is connected to counts as used.
 */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Move } from "../../contract/move.ts";
import type { Live } from "../live.ts";

export interface IdleParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly find: (id: string) => Live | undefined;
  /** Closes it, or puts it to sleep, as its `spec.idle` says; may leave it when others use it. */
  readonly act: (live: Live) => Promise<void>;
}

export class Idle {
  readonly #parts: IdleParts;
  /** Calls and streams under way, by sandbox. */
  readonly #uses = new Map<string, number>();
  readonly #timers = new Map<string, () => void>();
  /** Monotonic clock when its last use ended. */
  readonly #since = new Map<string, number>();
  readonly #acting = new Map<string, Promise<void>>();
  #closed = false;

  constructor(parts: IdleParts) {
    this.#parts = parts;
  }

  /** In use from now until the result is called; what its idleness has set off by then is waited for first. */
  async begin(id: string): Promise<() => void> {
    const done = this.use(id);
    await this.#acting.get(id);
    return done;
  }

  use(id: string): () => void {
    this.#stop(id);
    this.#uses.set(id, (this.#uses.get(id) ?? 0) + 1);
    let over = false;
    return () => {
      if (over) return;
      over = true;
      const left = (this.#uses.get(id) ?? 1) - 1;
      if (left > 0) this.#uses.set(id, left);
      else {
        this.#uses.delete(id);
        this.#rest(id);
      }
    };
  }

  async during<T>(id: string, job: () => Promise<T>): Promise<T> {
    const done = await this.begin(id);
    try {
      return await job();
    } finally {
      done();
    }
  }

  /** Told of every move: a sandbox is timed while it runs. */
  moved({ sandbox, to }: Pick<Move, "sandbox" | "to">): void {
    if (to === "running") this.#rest(sandbox);
    else this.#stop(sandbox);
    if (to === "deleted" || to === "failed") this.#since.delete(sandbox);
  }

  /** Since nobody uses it; 0 while someone does, and for one that is not known here. */
  seconds(id: string): number {
    const since = this.#since.get(id);
    return since === undefined || this.#uses.has(id) ? 0 : (this.#parts.clock.monotonicMs() - since) / 1000;
  }

  close(): void {
    this.#closed = true;
    for (const id of [...this.#timers.keys()]) this.#stop(id);
  }

  #rest(id: string): void {
    if (this.#parts.find(id) !== undefined) this.#since.set(id, this.#parts.clock.monotonicMs());
    this.#arm(id);
  }

  #arm(id: string): void {
    this.#stop(id);
    const live = this.#parts.find(id);
    if (this.#closed || this.#uses.has(id) || live === undefined || live.spec.idle === null) return;
    if (live.info.state !== "running") return;
    const due = () => {
      this.#timers.delete(id);
      const acting = this.#act(live).finally(() => this.#acting.delete(id));
      this.#acting.set(id, acting);
    };
    this.#timers.set(id, this.#parts.clock.after(live.spec.idle.seconds * 1000, due, { background: true }));
  }

  #stop(id: string): void {
    this.#timers.get(id)?.();
    this.#timers.delete(id);
  }

  async #act(live: Live): Promise<void> {
    const { act, log } = this.#parts;
    try {
      await act(live);
    } catch (cause) {
      log.warn("an idle sandbox stays as it is", { id: live.id, ...live.spec.idle, cause: String(cause) });
    }
    this.#arm(live.id); // it is tried again, unless it is gone or asleep
  }
}
