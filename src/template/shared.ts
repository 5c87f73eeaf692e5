/** Work that several callers wait for at once. Whoever stops waiting leaves the others their result; the last one ends it. */
export class Shared<T> {
  readonly #stop = new AbortController();
  readonly #done: Promise<T>;
  #waiting = 0;

  constructor(work: (signal: AbortSignal) => Promise<T>) {
    this.#done = work(this.#stop.signal);
    this.#done.catch(() => undefined); // told to everyone who waits
  }

  /** True once it was ended for want of anyone who waits: there is nothing more to be had of it. */
  get stopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /**
   * The result. The last one to leave waits until the work has undone what it began, so that nothing outlives its caller.
   * @throws the signal's reason, or what the work threw
   */
  async result(signal?: AbortSignal): Promise<T> {
    if (signal === undefined) {
      this.#waiting += 1; // never leaves
      return this.#done;
    }
    this.#waiting += 1;
    const left = Promise.withResolvers<never>();
    const leave = () => {
      if (this.#waiting === 1) this.#stop.abort(signal.reason);
      else left.reject(signal.reason);
    };
    signal.addEventListener("abort", leave, { once: true });
    try {
      if (signal.aborted) leave();
      return await Promise.race([this.#done, left.promise]);
    } finally {
      this.#waiting -= 1;
      signal.removeEventListener("abort", leave);
    }
  }
}
