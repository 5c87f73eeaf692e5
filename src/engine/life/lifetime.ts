/** When a sandbox ends by itself: read, and changed while it lives. Its VMM is told of its new end, so that it holds without us. */
import type { Clock } from "../../base/clock.ts";
import type { Idle, LifecycleChange, LifecycleInfo, SandboxInfo } from "../../contract/routes/sandboxes.ts";
import type { Host } from "../../host/host.ts";
import { LIMITS } from "../../limits.ts";
import type { Lifecycle } from "../lifecycle.ts";
import type { Live } from "../live.ts";

export interface LifetimeParts {
  readonly clock: Clock;
  readonly host: Host;
}

/** `idleSeconds` is since its last use. */
export function lifetimeOf(info: SandboxInfo, idleSeconds: number): LifecycleInfo {
  const { createdAt, expiresAt, idle } = info;
  return {
    ttlSeconds: expiresAt === null ? null : (Date.parse(expiresAt) - Date.parse(createdAt)) / 1000,
    persistent: isPersistent(info),
    idleSeconds,
    idleTimeoutSeconds: idle?.seconds ?? null,
    expiresAt,
  };
}

/** It stays when nobody uses it: asleep, or because nothing ends it. */
export function isPersistent({ idle, expiresAt }: Pick<SandboxInfo, "idle" | "expiresAt">): boolean {
  return idle === undefined ? expiresAt === null : idle.action === "hibernate";
}

/** Applies a change to a running or paused sandbox of this process. */
export function changeLifetime(
  { clock, host }: LifetimeParts,
  lifecycle: Lifecycle,
  live: Live,
  change: Omit<LifecycleChange, "id">,
): void {
  const { ttlSeconds } = change;
  if (ttlSeconds !== undefined) {
    const expiresAt = ttlSeconds === null ? null : new Date(clock.wallMs() + ttlSeconds * 1000).toISOString();
    lifecycle.expireAfter(live, ttlSeconds);
    live.body?.vmm.setDeadline(ttlSeconds === null ? null : host.bootTimeNs() + BigInt(Math.ceil(ttlSeconds * 1e9)));
    const whole = expiresAt === null ? null : (Date.parse(expiresAt) - Date.parse(live.info.createdAt)) / 1000;
    live.spec = { ...live.spec, ttlSeconds: whole };
    live.info = { ...live.info, expiresAt };
  }
  const idle = idleAfter(live.info, change);
  const { idle: _, ...info } = live.info;
  live.spec = { ...live.spec, idle };
  live.info = idle === null ? info : { ...info, idle };
}

function idleAfter(info: SandboxInfo, { persistent, idleTimeoutSeconds }: Omit<LifecycleChange, "id">): Idle | null {
  const stays = persistent ?? isPersistent(info);
  if (idleTimeoutSeconds === null) return null;
  const seconds = idleTimeoutSeconds ?? info.idle?.seconds ?? null;
  if (seconds !== null) return { seconds, action: stays ? "hibernate" : "close" };
  if (persistent === undefined || persistent === isPersistent(info)) return null;
  return { seconds: LIMITS.idleSecondsDefault, action: stays ? "hibernate" : "close" };
}
