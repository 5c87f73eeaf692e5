/** A queue per account and the accounts in turn; in order of arrival within each. Every operation is O(1). */

export class Turns<T> {
  /** Insertion order of a Map and a Set is the order of turns and of arrival. */
  readonly #queues = new Map<string, Set<T>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(account: string, item: T): void {
    const queue = this.#queues.get(account);
    if (queue === undefined) this.#queues.set(account, new Set([item]));
    else queue.add(item);
    this.#size += 1;
  }

  /** Whose turn it is; stays the same until it is shifted or deleted. */
  next(): T | undefined {
    for (const queue of this.#queues.values()) for (const item of queue) return item;
    return undefined;
  }

  /** Takes the next one out; its account then waits for all others. */
  shift(): void {
    for (const [account, queue] of this.#queues) {
      for (const item of queue) {
        this.#drop(account, queue, item);
        if (queue.size === 0) return;
        this.#queues.delete(account);
        this.#queues.set(account, queue);
        return;
      }
    }
  }

  /** False when it is not waiting any more. */
  delete(account: string, item: T): boolean {
    const queue = this.#queues.get(account);
    if (queue?.has(item) !== true) return false;
    this.#drop(account, queue, item);
    return true;
  }

  #drop(account: string, queue: Set<T>, item: T): void {
    queue.delete(item);
    this.#size -= 1;
    if (queue.size === 0) this.#queues.delete(account);
  }
}
