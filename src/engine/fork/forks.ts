/**
 * What changes a sandbox as a whole while it lives: forks of it, and standing still. One such job at a time per sandbox, in
 * order, beside its ordinary calls.
 */
import { nonce } from "../../base/id.ts";
import { Mailbox } from "../../base/mailbox.ts";
import type { CallOptions } from "../../contract/route.ts";
import {
  type Fork,
  type ForkResult,
  type ForkTreeResult,
  type Promote,
  type PromoteResult,
  TREE_KEY,
} from "../../contract/routes/forks.ts";
import type { SandboxInfo } from "../../contract/routes/sandboxes.ts";
import { WarrenError } from "../../errors.ts";
import type { AwakeClone, SandboxParts } from "../create/clone.ts";
import type { Creates } from "../create/creates.ts";
import { isTerminal, type Lifecycle } from "../lifecycle.ts";
import type { Live } from "../live.ts";
import { narrowed } from "../network/policies.ts";
import type { SandboxSpec } from "../plan.ts";
import { notRunning } from "../reached.ts";
import { type ForkPoint, takeCheckpoint } from "./checkpoint.ts";

export class Forks {
  readonly #parts: SandboxParts;
  readonly #lifecycle: Lifecycle;
  readonly #creates: Creates;
  readonly #lane = new Mailbox<string>();

  constructor(parts: SandboxParts, lifecycle: Lifecycle, creates: Creates) {
    this.#parts = parts;
    this.#lifecycle = lifecycle;
    this.#creates = creates;
  }

  /** All children or none. @throws {WarrenError} as the contract's `fork` says */
  async fork(live: Live, input: Fork, options: CallOptions): Promise<ForkResult> {
    await this.#parts.networks.refresh(live); // a child has no more than its parent has now
    const spec = this.#childSpec(live, input);
    const point = await this.checkpoint(live, options.signal);
    try {
      const children = await this.#children(live, spec, point, input.count ?? 1, options);
      return { parentId: live.id, children, pauseMs: point.pauseMs, changedBytes: point.changedBytes };
    } finally {
      point.release();
    }
  }

  async forkTree(live: Live, input: Fork, options: CallOptions): Promise<ForkTreeResult> {
    const treeId = nonce();
    const metadata = { ...input.metadata, [TREE_KEY]: treeId };
    return { treeId, ...(await this.fork(live, { ...input, metadata }, options)) };
  }

  /** `siblings` are the account's sandboxes. */
  async promote(live: Live, { treeId, cleanupSiblings }: Promote): Promise<PromoteResult> {
    const own = live.info.metadata[TREE_KEY] ?? null;
    if (treeId !== undefined && treeId !== own) {
      const says = `treeId: sandbox ${live.id} is of ${own === null ? "no tree" : `the tree ${own}`}, not of ${treeId}`;
      throw new WarrenError("invalid_request", says, { details: { field: "treeId", got: treeId } });
    }
    const siblings = this.#lifecycle
      .all()
      .filter((other) => other.account === live.account && other.id !== live.id && !isTerminal(other))
      .filter((other) => own !== null && other.info.metadata[TREE_KEY] === own);
    const deleted: string[] = [];
    const failures: Record<string, string> = {};
    const end = async (sibling: Live): Promise<void> => {
      try {
        await this.#lifecycle.end(sibling, `its sibling ${live.id} was promoted`);
        deleted.push(sibling.id);
      } catch (cause) {
        failures[sibling.id] = cause instanceof Error ? cause.message : String(cause);
      }
    };
    if (cleanupSiblings === true) await Promise.all(siblings.map(end));
    return { winner: live.id, treeId: own, deleted, failures };
  }

  /** This instant of a running or paused sandbox; the caller releases it. */
  checkpoint(live: Live, signal?: AbortSignal): Promise<ForkPoint> {
    return this.alone(live, async () => {
      signal?.throwIfAborted();
      return takeCheckpoint(this.#parts, live, bodyOf(live, "running", "paused"), { signal });
    });
  }

  /** A job that changes the sandbox as a whole, in its turn. */
  alone<T>(live: Live, job: () => Promise<T>): Promise<T> {
    return this.#lane.run(live.id, async () => {
      try {
        await this.#parts.networks.refresh(live);
        return await job();
      } finally {
        if (live.spec.detached) live.body?.vmm.letGo(); // another process may be next
      }
    });
  }

  pause(live: Live): Promise<void> {
    return this.alone(live, async () => {
      if (live.info.state === "paused") return;
      const body = bodyOf(live, "running");
      const askedMs = this.#parts.clock.monotonicMs(); // it stands still somewhere between here and the answer
      await body.vmm.pause();
      await this.#moved(live, body, "paused", askedMs);
    });
  }

  resume(live: Live): Promise<void> {
    return this.alone(live, async () => {
      if (live.info.state === "running") return;
      const body = bodyOf(live, "paused");
      await body.vmm.resume();
      await this.#moved(live, body, "resumed", this.#parts.clock.monotonicMs());
    });
  }

  /** Its own engine logs the move; what another process made has only its record changed. */
  async #moved(live: Live, body: AwakeClone, event: "paused" | "resumed", atMs: number): Promise<void> {
    if (live.borrowed) {
      live.info = { ...live.info, state: event === "paused" ? "paused" : "running" };
      live.movedMs = atMs;
    } else await this.#lifecycle.post(live, event, null, atMs);
    if (live.spec.detached) await this.#creates.register(live, body);
  }

  async #children(
    live: Live,
    spec: SandboxSpec,
    { origin }: ForkPoint,
    count: number,
    options: CallOptions,
  ): Promise<SandboxInfo[]> {
    // One that fails ends its siblings, those under way included.
    const siblings = new AbortController();
    const signal = options.signal === undefined ? siblings.signal : AbortSignal.any([options.signal, siblings.signal]);
    const { expiresAt } = live.info;
    const endsMs = expiresAt === null ? null : Date.parse(expiresAt);
    const from = { origin, spec, parentId: live.id, endsMs };
    const made = Array.from({ length: count }, () =>
      this.#creates.fork(live.account, from, { ...options, signal }).catch((cause: unknown) => {
        siblings.abort(cause);
        throw cause;
      }),
    );
    const ends = await Promise.allSettled(made);
    if (!siblings.signal.aborted) return ends.flatMap((end) => (end.status === "fulfilled" ? [end.value] : []));
    for (const end of ends) {
      const child = end.status === "fulfilled" ? this.#lifecycle.get(end.value.id) : undefined;
      if (child !== undefined) await this.#lifecycle.end(child, "a sibling could not be made");
    }
    throw siblings.signal.reason;
  }

  /** What a child inherits; it may only be given less. */
  #childSpec(live: Live, { ttlSeconds, metadata, egress }: Fork): SandboxSpec {
    const { expiresAt } = live.info;
    const leftSeconds = expiresAt === null ? null : (Date.parse(expiresAt) - this.#parts.clock.wallMs()) / 1000;
    if (leftSeconds !== null && leftSeconds <= 0) throw notRunning({ ...live.info, reason: "its time is over" });
    if (ttlSeconds !== undefined && leftSeconds !== null && ttlSeconds > leftSeconds) {
      const says = `ttlSeconds: a child lives no longer than its parent: got ${ttlSeconds}, allowed is up to ${Math.floor(leftSeconds)}`;
      throw new WarrenError("invalid_request", says, {
        details: { field: "ttlSeconds", got: ttlSeconds, max: leftSeconds },
      });
    }
    return {
      ...live.spec,
      ttlSeconds: ttlSeconds ?? leftSeconds,
      metadata: { ...live.spec.metadata, ...metadata },
      policy: narrowed(egress ?? null, undefined, live.policy, this.#parts.networks.facts, "its parent's"),
    };
  }
}

/** What the sandbox stands on, in one of these states. @throws {WarrenError} `wrong_state`, `sandbox_lost` */
export function bodyOf(live: Live, ...states: readonly SandboxInfo["state"][]): AwakeClone {
  if (!states.includes(live.info.state) || live.body === null) throw notRunning(live.info);
  return live.body;
}
