/** What users do with sandboxes while others kill: one after another made, paused, put to sleep, used and closed, by chance. */
import { systemClock } from "../../../src/base/clock.ts";
import { hostClock } from "../../../src/host/slots/host-clock.ts";
import type { Random } from "../../fuzz/random.ts";
import type { Ground } from "./ground.ts";

/** How often each thing was done with success. */
export type Done = Record<string, number>;

const DOES = ["pause", "resume", "hibernate", "wake", "exec", "wait", "wait", "close"] as const;

export class Life {
  readonly done: Done = {};
  /** Sandboxes that nobody has closed. */
  readonly kept = new Set<string>();

  readonly #ground: Ground;

  constructor(ground: Ground) {
    this.#ground = ground;
  }

  /** Until the signal; each life has its own series of chances. */
  async live(random: Random, over: AbortSignal): Promise<void> {
    while (!over.aborted) {
      const id = (random.once(2) ? this.#take(random) : null) ?? (await this.#make(random));
      if (id === null) {
        await systemClock.sleep(50);
        continue;
      }
      const steps = random.below(5);
      for (let step = 0; step < steps && !over.aborted; step++) if (!(await this.#step(id, random))) break;
      if (!random.once(4) && !over.aborted) await this.close(id);
      else this.kept.add(id);
    }
  }

  async close(id: string): Promise<void> {
    await this.#leaving(id, "close", "DELETE", `/v1/sandboxes/${id}`);
  }

  #take(random: Random): string | null {
    const all = [...this.kept];
    const id = all.length === 0 ? null : random.pick(all);
    if (id !== null) this.kept.delete(id);
    return id;
  }

  async #make(random: Random): Promise<string | null> {
    const body = {
      template: "base",
      ttl_seconds: random.once(4) ? 2 + random.below(8) : 900,
      ...(random.once(6) && { egress_allowlist: ["example.com"] }),
    };
    const answer = await this.#ground.ask("POST", "/v1/sandboxes", body);
    this.#count("create", answer?.status);
    if (answer?.status !== 201) return null;
    return (JSON.parse(answer.text) as { id: string }).id;
  }

  /** False: there is nothing left to be done with it. */
  async #step(id: string, random: Random): Promise<boolean> {
    const does = random.pick(DOES);
    const path = `/v1/sandboxes/${id}`;
    if (does === "wait") {
      await systemClock.sleep(random.below(800));
      return true;
    }
    if (does === "close") {
      await this.close(id);
      return false;
    }
    if (does === "hibernate") await this.#leaving(id, does, "POST", `${path}/hibernate`);
    else if (does === "exec")
      this.#count(does, (await this.#ground.ask("POST", `${path}/exec`, { cmd: "date" }))?.status);
    else this.#count(does, (await this.#ground.ask("POST", `${path}/${does}`))?.status);
    return true;
  }

  /** What may end its machine counts from when it is asked for, unless it is refused. */
  async #leaving(id: string, does: string, method: string, path: string): Promise<void> {
    const { asked, slept } = this.#ground.watch;
    if (does === "hibernate") slept.add(id);
    const atMs = hostClock.monotonicMs();
    const answer = await this.#ground.ask(method, path);
    this.#count(does, answer?.status);
    if (answer === null || answer.status < 400) asked.set(id, [...(asked.get(id) ?? []), atMs]);
  }

  #count(does: string, status: number | undefined): void {
    const what = status === undefined ? "cut off" : status < 400 ? does : `${does} ${status}`;
    this.done[what] = (this.done[what] ?? 0) + 1;
  }
}
