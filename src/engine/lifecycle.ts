/**
 * The only writer of a sandbox's state. Events are judged one at a time per sandbox, observed ones before asked-for ones;
 * a move is logged in the same step. Slow work runs outside and comes back as an observed event.
 */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { Mailbox } from "../base/mailbox.ts";
import type { Move } from "../contract/move.ts";
import type { SandboxInfo, SandboxState } from "../contract/routes/sandboxes.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { undoAll } from "./create/clone.ts";
import { Live, type Posted } from "./live.ts";
import type { MoveLog } from "./log.ts";
import type { SandboxSpec } from "./plan.ts";
import { judge, nextEvent, type SandboxEvent, TERMINAL, type Verdict } from "./state.ts";

export class Lifecycle {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #moves: MoveLog;
  readonly #mailbox = new Mailbox<string>();
  readonly #lives = new Map<string, Live>();
  readonly #ended = new Set<string>();

  constructor(clock: Clock, log: Log, moves: MoveLog) {
    this.#clock = clock;
    this.#log = log;
    this.#moves = moves;
  }

  /** A new sandbox in `creating`, at this instant. */
  open(account: string, spec: SandboxSpec, info: SandboxInfo): Live {
    const live = new Live(account, spec, info);
    this.#lives.set(live.id, live);
    this.#append(live, null, "creating", "created", null, this.#clock.monotonicMs());
    return live;
  }

  /** One that this process did not make, in the state that it is found in. */
  adopt(account: string, spec: SandboxSpec, info: SandboxInfo): Live {
    const live = new Live(account, spec, info);
    this.#lives.set(live.id, live);
    const from = this.#moves.of(live.id).at(-1)?.to ?? null; // it may have been ours before another process took it
    this.#append(live, from, info.state, "adopted", null, this.#clock.monotonicMs());
    return live;
  }

  /** Ended ones are remembered up to `LIMITS.endedSandboxes`. */
  get(id: string): Live | undefined {
    return this.#lives.get(id);
  }

  all(): Live[] {
    return [...this.#lives.values()];
  }

  /** Its end so many seconds from now, instead of the one that was set; null: none. Its VMM's own deadline is its driver's. */
  expireAfter(live: Live, seconds: number | null, reason = `its time to live of ${seconds} s ran out`): void {
    live.cancelExpiry();
    live.cancelExpiry = () => undefined;
    if (seconds === null) return;
    const expire = () => void this.post(live, "expire", reason);
    live.cancelExpiry = this.#clock.after(Math.max(0, seconds * 1000), expire, { background: true });
  }

  /** Another process has it now: nothing is done to it from here any more. */
  forget(live: Live): void {
    live.cancelExpiry();
    live.dropImage = null;
    this.#lives.delete(live.id);
  }

  /** Judges an event in its turn; the verdict is already applied. `monotonicMs` is when it happened, if not now. */
  post(live: Live, event: SandboxEvent, reason: string | null, monotonicMs: number | null = null): Promise<Verdict> {
    const { promise, resolve } = Promise.withResolvers<Verdict>();
    live.posted.push({ event, reason, monotonicMs, judged: resolve });
    void this.#mailbox.run(live.id, () => this.#judgeNext(live));
    return promise;
  }

  /** Asks for the end and waits until nothing of the sandbox is left. */
  async end(live: Live, reason: string): Promise<void> {
    await this.post(live, "close", reason);
    await live.ended.promise;
  }

  #judgeNext(live: Live): void {
    const next = nextEvent(live.posted);
    if (next === undefined) return;
    live.posted.splice(live.posted.indexOf(next), 1);
    const from = live.info.state;
    const verdict = judge(from, next.event);
    if (verdict.kind === "move") this.#move(live, from, verdict.to, next);
    if (verdict.kind === "refused") this.#log.error("an event came that cannot come", { id: live.id, from, ...next });
    next.judged(verdict);
  }

  #move(live: Live, from: SandboxState, to: SandboxState, by: Posted): void {
    const reason = by.reason ?? live.info.reason;
    live.info = { ...live.info, state: to, reason };
    this.#append(live, from, to, by.event, reason, by.monotonicMs ?? this.#clock.monotonicMs());
    if (to === "stopping" || to === "failed") void this.#tearDown(live, reason ?? by.event);
    if (to === "deleted") this.#settle(live);
  }

  /** Waits for a create under way to let go, gives back what it left, and says so. */
  async #tearDown(live: Live, reason: string): Promise<void> {
    live.cancelExpiry();
    live.left.resolve();
    live.abandon(new WarrenError("cancelled", `sandbox ${live.id} ended while it was being created: ${reason}`));
    await live.created.promise;
    if (live.body !== null) await undoAll(live.body.undo, this.#log, live.id);
    live.body = null;
    try {
      await live.dropImage?.();
    } catch (cause) {
      this.#log.error("the image of a hibernated sandbox could not be removed", { id: live.id, cause: String(cause) });
    }
    live.dropImage = null;
    if (live.info.state === "failed") this.#settle(live);
    else await this.post(live, "reaped", null);
  }

  #settle(live: Live): void {
    live.ended.resolve();
    this.#ended.add(live.id);
    if (this.#ended.size <= LIMITS.endedSandboxes) return;
    for (const oldest of this.#ended) {
      this.#ended.delete(oldest);
      this.#lives.delete(oldest);
      return;
    }
  }

  #append(
    live: Live,
    from: SandboxState | null,
    to: SandboxState,
    event: SandboxEvent | "created" | "adopted",
    reason: string | null,
    monotonicMs: number,
  ): void {
    const { template, cpu, memoryMib } = live.spec;
    // Both clocks at one instant, also for a move that is logged a little after it happened.
    const wallMs = this.#clock.wallMs() - (this.#clock.monotonicMs() - monotonicMs);
    const sequence = this.#moves.nextSequence(live.id);
    const row = { sandbox: live.id, account: live.account, template, cpu, memoryMib, sequence, from, to };
    const network = LEAVING.has(to) ? networkOf(live) : null;
    this.#moves.append({ ...row, event, reason, ...(network && { network }), monotonicMs, wallMs });
  }
}

/** States in which nothing is left of a guest's network. */
const LEAVING: ReadonlySet<SandboxState> = new Set(["stopping", "failed", "hibernated"]);

function networkOf({ body }: Live): Move["network"] | null {
  const used = body?.lease.network?.usage() ?? null;
  return used === null ? null : { bytesOut: used.bytesOut, bytesIn: used.bytesIn, connections: used.connections };
}

export function isTerminal(live: Live): boolean {
  return TERMINAL.has(live.info.state);
}
