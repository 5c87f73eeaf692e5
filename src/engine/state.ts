/**
 * The lifecycle of a sandbox as data. Every (state, event) pair is decided here: a move, ignored, or refused; a pair left
 * out does not compile.
 *
 *   creating ──booted──▶ running ──close, expire──▶ stopping ──reaped──▶ deleted
 *       │ └──close, expire──────────────────────────▲
 *       └─bootFailed, exited, lost──▶ failed ◀──exited, lost── running ◀──resumed── paused (and back by paused)
 *
 * A paused sandbox ends as a running one does. Both ──hibernated──▶ hibernated ──woken──▶ running; it has no machine
 * meanwhile, so nothing but close and expire ends it.
 */
import type { SandboxState } from "../contract/routes/sandboxes.ts";

/** Asked for: by a caller, or by the sandbox's own deadline. Accepted or ignored in every state. */
export const ASKED = ["close", "expire"] as const;
/** Observed: already true when the engine hears of it, so judged before what is asked for. */
export const OBSERVED = [
  "booted",
  "bootFailed",
  "paused",
  "resumed",
  "hibernated",
  "woken",
  "exited",
  "lost",
  "reaped",
] as const;

export type SandboxEvent = (typeof ASKED)[number] | (typeof OBSERVED)[number];
/** `refused`: it cannot happen there, so whoever sent it has a bug. */
type Decision = SandboxState | "ignored" | "refused";

/** How every state that holds a machine ends; whatever else is a bug there unless it is said. */
const ends = {
  close: "stopping",
  expire: "stopping",
  booted: "refused",
  bootFailed: "refused",
  paused: "refused",
  resumed: "refused",
  hibernated: "refused",
  woken: "refused",
  exited: "failed",
  lost: "failed",
  reaped: "refused",
} as const satisfies Record<SandboxEvent, Decision>;

const settled = {
  close: "ignored",
  expire: "ignored",
  booted: "ignored",
  bootFailed: "ignored",
  paused: "ignored",
  resumed: "ignored",
  hibernated: "ignored",
  woken: "ignored",
  exited: "ignored",
  lost: "ignored",
  reaped: "ignored",
} as const satisfies Record<SandboxEvent, Decision>;

export const DECISIONS = {
  creating: {
    ...ends,
    booted: "running",
    bootFailed: "failed",
  },
  running: {
    ...ends,
    paused: "paused",
    hibernated: "hibernated",
  },
  paused: {
    ...ends,
    resumed: "running",
    hibernated: "hibernated",
  },
  /** No machine is left that could end by itself; what its last one did as it went is known. */
  hibernated: {
    ...ends,
    bootFailed: "failed",
    woken: "running",
    exited: "ignored",
    lost: "ignored",
  },
  stopping: { ...settled, reaped: "deleted" },
  deleted: settled,
  failed: settled,
} as const satisfies Record<SandboxState, Record<SandboxEvent, Decision>>;

/** States that are left by no event. */
export const TERMINAL: ReadonlySet<SandboxState> = new Set(["deleted", "failed"]);

export type Verdict =
  | { readonly kind: "move"; readonly to: SandboxState }
  | { readonly kind: "ignored" }
  | { readonly kind: "refused" };

/** What `event` does to a sandbox that is `from`; pure. */
export function judge(from: SandboxState, event: SandboxEvent): Verdict {
  const decision: Decision = DECISIONS[from][event];
  if (decision === "ignored" || decision === "refused") return { kind: decision };
  return { kind: "move", to: decision };
}

/** The event to judge next: the oldest observed one, else the oldest. */
export function nextEvent<T extends { readonly event: SandboxEvent }>(waiting: readonly T[]): T | undefined {
  return waiting.find((w) => (OBSERVED as readonly string[]).includes(w.event)) ?? waiting[0];
}
