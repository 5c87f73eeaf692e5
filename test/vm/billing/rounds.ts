/**
 * The runs: in each round a server lives for some seconds under three users, while its VMMs and its database are killed, and then
 * is killed itself, alone or with all that it made. After it, whatever has ended by then is judged.
 */
import { systemClock } from "../../../src/base/clock.ts";
import { Random } from "../../fuzz/random.ts";
import type { Ground } from "./ground.ts";
import { judged, type Verdict } from "./judge.ts";
import { Life } from "./life.ts";

const USERS = 3;
/** A server's life after it is ready. */
const LIFE_MS = { least: 2_500, most: 6_000 };
/** VMMs, and connections or databases, that are killed in each. */
const KILLS_EACH = 5;
const AWAY_MS = { often: 1_500, seldom: 15_000 };
const ENDED_MS = 90_000;

export interface Outcome {
  readonly verdicts: readonly Verdict[];
  readonly done: Life["done"];
  readonly events: number;
}

export class Rounds {
  readonly #ground: Ground;
  readonly #life: Life;
  readonly #verdicts = new Map<string, Verdict>();

  constructor(ground: Ground) {
    this.#ground = ground;
    this.#life = new Life(ground);
  }

  /** One life and death. @throws {Error} what is billed wrongly so far */
  async round(seed: number): Promise<void> {
    const random = new Random(seed);
    const ground = this.#ground;
    await ground.serve();
    await this.#judgeEnded();
    const over = new AbortController();
    const lifeMs = LIFE_MS.least + random.below(LIFE_MS.most - LIFE_MS.least);
    const users = Array.from({ length: USERS }, (_, i) => this.#life.live(new Random(seed * 16 + i + 1), over.signal));
    const settling = this.#settle(random, over.signal);
    const killing = [this.#killVmms(random, lifeMs, over.signal), this.#killDatabase(random, lifeMs, over.signal)];
    await systemClock.sleep(lifeMs);
    // Whose database is away just now is killed once it is back, or a little before.
    if (!random.once(2)) await killing[1];
    if (random.below(5) < 3) await ground.killServer();
    else await ground.killGroup(random, random.once(2));
    over.abort();
    await Promise.all([...users, ...killing, settling]);
    await systemClock.sleep(random.below(random.once(15) ? AWAY_MS.seldom : AWAY_MS.often));
  }

  /** A last server ends all; then everything is judged, and told again three times. @throws {Error} what is wrong */
  async finish(): Promise<Outcome> {
    const ground = this.#ground;
    const { ledger, watch } = ground;
    await ground.serve();
    const left = new Set([...watch.living().map(({ id }) => id), ...(await ledger.open())]);
    for (const id of left) await this.#life.close(id);
    const until = systemClock.monotonicMs() + ENDED_MS;
    while ((await ledger.open()).size > 0 || watch.living().some(({ id }) => watch.axes.has(id))) {
      if (systemClock.monotonicMs() > until) throw new Error(`not ended: ${[...(await ledger.open())].join(", ")}`);
      await systemClock.sleep(250);
    }
    await ground.server?.end("SIGTERM");
    ground.server = null;
    this.#verdicts.clear();
    await this.#judge([...watch.axes.keys()]);
    const strangers = [...(await ledger.charged())].filter((id) => !watch.axes.has(id));
    if (strangers.length > 0) throw new Error(`charged, and no VMM of it was seen: ${strangers.join(", ")}`);
    await ledger.settle();
    const before = await ledger.books();
    const events = await ledger.replay(3);
    const after = await ledger.books();
    const faults = [
      ...(await ledger.faults()),
      ...(Bun.deepEquals(before, after) ? [] : ["a replay changed the books"]),
    ];
    if (faults.length > 0) throw new Error(faults.join("; "));
    return { verdicts: [...this.#verdicts.values()], done: this.#life.done, events };
  }

  async #judgeEnded(): Promise<void> {
    const { ledger, watch } = this.#ground;
    const open = await ledger.open();
    const living = new Set(watch.living().map(({ id }) => id));
    await this.#judge(
      [...watch.axes.keys()].filter((id) => !open.has(id) && !living.has(id) && !this.#verdicts.has(id)),
    );
  }

  async #judge(ids: readonly string[]): Promise<void> {
    const { ledger, watch } = this.#ground;
    for (const id of ids) {
      const verdict = judged(id, watch, await ledger.billed(id, watch.axes.get(id) ?? Number.NaN));
      this.#verdicts.set(id, verdict);
      if (verdict.isRight) continue;
      const moves = await ledger.rows(
        `select sequence, from_state, to_state, event, reason, monotonic_ms - ${watch.axes.get(id)} as at from moves where sandbox = '${id}' order by 1`,
      );
      const told = { verdict, machines: watch.of(id), asked: watch.asked.get(id), moves, crashes: watch.crashes };
      throw new Error(`billed wrongly: ${JSON.stringify(told, null, 1)}`);
    }
  }

  async #killVmms(random: Random, lifeMs: number, over: AbortSignal): Promise<void> {
    const { watch } = this.#ground;
    for (let left = KILLS_EACH; left > 0 && !over.aborted; ) {
      await systemClock.sleep(random.below((2 * lifeMs) / KILLS_EACH));
      const living = watch.living().filter(({ vmm }) => vmm !== null);
      if (over.aborted) return;
      if (living.length > 0 && this.#ground.killVmm(random.pick(living), random, random.once(4))) left -= 1;
    }
  }

  async #killDatabase(random: Random, lifeMs: number, over: AbortSignal): Promise<void> {
    for (let left = KILLS_EACH; left > 0; left--) {
      await systemClock.sleep(random.below((2 * lifeMs) / KILLS_EACH));
      if (over.aborted) return;
      if (random.once(5)) await this.#ground.crashDatabase(random.below(1_500));
      else await this.#ground.cutConnections();
    }
  }

  /** As the server's own each minute, and much more often. */
  async #settle(random: Random, over: AbortSignal): Promise<void> {
    while (!over.aborted) {
      await systemClock.sleep(random.below(800));
      await this.#ground.ledger.settle().catch(() => undefined); // its connection was killed: it is done again
    }
  }
}
