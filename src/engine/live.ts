/** One sandbox of this process: its state as last moved, what it stands on, and who waits for its end. */
import type { NetworkInfo } from "../contract/routes/network.ts";
import type { SandboxInfo } from "../contract/routes/sandboxes.ts";
import type { Policy } from "../egress/policy.ts";
import type { WarrenError } from "../errors.ts";
import type { Layer } from "../host/host.ts";
import type { AwakeClone } from "./create/clone.ts";
import type { LiveEgress } from "./network/entrusted.ts";
import type { SandboxSpec } from "./plan.ts";
import type { SandboxEvent, Verdict } from "./state.ts";
import type { Placed } from "./volumes/places.ts";

/** An event on its way to being judged. */
export interface Posted {
  readonly event: SandboxEvent;
  /** For people; kept as the sandbox's reason when the event moves it. */
  readonly reason: string | null;
  /** When it happened, if that is not now. */
  readonly monotonicMs: number | null;
  readonly judged: (verdict: Verdict) => void;
}

export class Live {
  readonly account: string;
  /** Written by the engine only, as is `info`. */
  spec: SandboxSpec;
  /** Written by the engine only. */
  info: SandboxInfo;
  /** Set when the create has succeeded; given back once. */
  body: AwakeClone | null = null;
  /** Files under its memory, lowest first; the last ones are its own, held by `body`. */
  layers: readonly Layer[] = [];
  /** What is in its drives, by name; written by `Volumes` only. */
  readonly volumes = new Map<string, Placed>();
  /** What may leave it, as it is now; `spec` has what it began with. Written by `Networks` only, as are the next two. */
  policy: Policy;
  /** While it stands on a host's network. */
  egress: LiveEgress | null = null;
  /** What it had used of a network that it does not have any more. */
  used: NetworkInfo["usage"] = null;
  readonly posted: Posted[] = [];
  /** Ends the create, or the wake, at its next step. */
  creating = new AbortController();
  /** The create, wake or hibernation is over: `body` is set, or all it took is given back. */
  created = Promise.withResolvers<void>();
  /** It takes no more calls, for good. */
  readonly left = Promise.withResolvers<void>();
  /** In a terminal state, and nothing of it is left on the host. */
  readonly ended = Promise.withResolvers<void>();
  /** While it is hibernated: removes what it is then. */
  dropImage: (() => Promise<void>) | null = null;
  cancelExpiry: () => void = () => undefined;
  /**
   * What makes of the host's monotonic clock the sandbox's own axis of time: the wall clock less the monotonic one at its
   * creation, and the same from then on, whatever the wall clock does. Written by `Lifecycle` only, as are the next three; of a
   * borrowed one by who borrows it.
   */
  axisMs = 0;
  /** Monotonic clock of its last move. */
  movedMs = 0;
  /** Monotonic clock of the end of its lifetime: no move that ends its time is later. Null: it has none. */
  endsMs: number | null = null;
  /** CPU time that its lease had used when its guest began to run; null where the host does not tell. */
  cpuBeforeMs: number | null = null;
  /** Made by another process: this is what is known of it here, for one job. */
  borrowed = false;
  /** Handed to the home: it lives on without this engine, which has hung up on its agent. */
  released = false;

  constructor(account: string, spec: SandboxSpec, info: SandboxInfo) {
    this.account = account;
    this.spec = spec;
    this.policy = spec.policy;
    this.info = info;
  }

  get id(): string {
    return this.info.id;
  }

  /** Something that `creating` ends and `created` waits for has begun anew. */
  begin(): void {
    this.creating = new AbortController();
    this.created = Promise.withResolvers();
  }

  /** Stops a create that is under way; later calls change nothing. */
  abandon(why: WarrenError): void {
    if (!this.creating.signal.aborted) this.creating.abort(why);
  }
}
