/** How an engine is set up; all of it has defaults. */
import type { SandboxInfo } from "../../contract/routes/sandboxes.ts";
import type { BakeEvent } from "../../contract/routes/templates.ts";

/** Who keeps clones ready for others: a server's administrator, and root of an embedded home. */
export const OPERATOR = "admin";

export interface EngineOptions {
  /** Prepared VMM processes kept per template in use; default {@link LIMITS.preparedPerTemplate}. */
  readonly prepared?: number;
  /** Milliseconds without use after which they are given up; default {@link LIMITS.preparedIdleMs}. */
  readonly preparedIdleMs?: number;
  /** Restored, paused clones kept per template in use, their memory counted; default 0. */
  readonly ready?: number;
  /**
   * What the pool is for: sandboxes that end with this process, or, with true, detached ones, as a server makes. Others then
   * find nothing prepared.
   */
  readonly detachedPool?: boolean;
  /** Whose the memory of ready clones is until somebody takes them; default {@link OPERATOR}. */
  readonly poolAccount?: string;
  /**
   * Asked before a hibernated sandbox is woken, by whatever call: what it throws is what the caller gets, and the sandbox sleeps
   * on.
   */
  readonly admitWake?: (account: string, info: SandboxInfo) => Promise<void>;
  /** Creates that may wait; default {@link LIMITS.createQueue}. */
  readonly queue?: number;
  /** Milliseconds a create may wait for room; default {@link LIMITS.createWaitMs}. */
  readonly createWaitMs?: number;
  /** vCPUs promised per core; default {@link LIMITS.vcpusPerCore}. */
  readonly vcpusPerCore?: number;
  /** Told about each step when a create has to bake first. */
  readonly onBake?: (event: BakeEvent) => void;
  /** False leaves every clone with the snapshot's randomness: for the control run that shows what reseeding is for. */
  readonly reseed?: boolean;
}
