/** One job at a time per key, in order of arrival. A job that throws does not stop the next. */

export class Mailbox<K> {
  readonly #tails = new Map<K, Promise<void>>();

  /** Runs `job` after every job given earlier for `key`; settles as `job` does. */
  run<T>(key: K, job: () => Promise<T> | T): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const mine = before.then(job);
    const tail = mine.then(
      () => undefined,
      () => undefined, // the caller of `run` gets the error; the queue only needs to know that the job is over
    );
    this.#tails.set(key, tail);
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    return mine;
  }

  /** Keys with a job waiting or running. */
  get size(): number {
    return this.#tails.size;
  }
}
