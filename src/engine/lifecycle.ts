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
import type { Host } from "../host/host.ts";
import { LIMITS } from "../limits.ts";
import { undoAll } from "./create/clone.ts";
import { endSeen } from "./life/ends.ts";
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
  readonly #host: Pick<Host, "lives">;

  constructor(clock: Clock, log: Log, moves: MoveLog, host: Pick<Host, "lives">) {
    this.#clock = clock;
    this.#host = host;
    this.#log = log;
    this.#moves = moves;
  }

  /** A new sandbox in `creating`, at this instant. */
  open(account: string, spec: SandboxSpec, info: SandboxInfo): Live {
    const live = new Live(account, spec, info);
    const atMs = this.#clock.monotonicMs();
    live.axisMs = this.#clock.wallMs() - atMs;
    this.#lives.set(live.id, live);
    this.#append(live, null, "creating", "created", null, atMs);
    return live;
  }

  /** One that this process did not make, in the state that it is found in, on the axis of time that it has had. */
  adopt(account: string, spec: SandboxSpec, info: SandboxInfo, axisMs: number): Live {
    const live = new Live(account, spec, info);
    live.axisMs = axisMs;
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
    live.endsMs = seconds === null ? null : this.#clock.monotonicMs() + Math.max(0, seconds * 1000);
    if (seconds === null) return;
    const expire = () => void this.#expire(live, reason);
    live.cancelExpiry = this.#clock.after(Math.max(0, seconds * 1000), expire, { background: true });
  }

  /** One whose machine ended before, unnoticed, did not live until now. */
  async #expire(live: Live, reason: string): Promise<void> {
    const seen = endSeen(live, { host: this.#host, clock: this.#clock });
    if (seen !== null) await seen;
    await this.post(live, "expire", reason, seen === null ? null : live.movedMs);
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

  /** Asks for the end and waits until nothing of the sandbox is left. `monotonicMs` is when it was asked for, if not now. */
  async end(live: Live, reason: string, monotonicMs: number | null = null): Promise<void> {
    await this.post(live, "close", reason, monotonicMs);
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
    this.#append(live, from, to, by.event, reason, this.#instantOf(live, to, by));
    // After the move, which others wait for.
    if (by.event === "booted" || by.event === "woken") live.cpuBeforeMs = live.body?.lease.cpuMs() ?? null;
    if (to === "stopping" || to === "failed") void this.#tearDown(live, reason ?? by.event);
    if (to === "deleted") this.#settle(live);
  }

  /** When it happened: after what went before, and nothing that ends its time after the end of its lifetime. */
  #instantOf(live: Live, to: SandboxState, { monotonicMs }: Posted): number {
    const atMs = Math.min(monotonicMs ?? this.#clock.monotonicMs(), (LEAVING.has(to) ? live.endsMs : null) ?? Infinity);
    return Math.max(atMs, this.#moves.of(live.id).at(-1)?.monotonicMs ?? 0);
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
    // Both clocks at one instant, also for a move that is logged a little after it happened; the first tells its axis.
    const isFirst = event === "created" || event === "adopted";
    const wallMs = isFirst
      ? monotonicMs + live.axisMs
      : this.#clock.wallMs() - (this.#clock.monotonicMs() - monotonicMs);
    const sequence = this.#moves.nextSequence(live.id);
    const row = { sandbox: live.id, account: live.account, template, cpu, memoryMib, sequence, from, to };
    const used = LEAVING.has(to) ? usedBy(live) : {};
    live.movedMs = monotonicMs;
    this.#moves.append({ ...row, event, reason, ...used, monotonicMs, wallMs });
  }
}

/** States in which nothing is left of a guest's network. */
const LEAVING: ReadonlySet<SandboxState> = new Set(["stopping", "failed", "hibernated"]);

/** What it used since its guest began to run. */
function usedBy({ body, cpuBeforeMs }: Live): Pick<Move, "network" | "cpuUsedMs"> {
  if (body === null) return {};
  const network = body.lease.network?.usage() ?? null;
  const cpuMs = cpuBeforeMs === null ? null : body.lease.cpuMs();
  return {
    ...(network && {
      network: { bytesOut: network.bytesOut, bytesIn: network.bytesIn, connections: network.connections },
    }),
    ...(cpuMs !== null && cpuBeforeMs !== null && { cpuUsedMs: Math.max(0, cpuMs - cpuBeforeMs) }),
  };
}

export function isTerminal(live: Live): boolean {
  return TERMINAL.has(live.info.state);
}
