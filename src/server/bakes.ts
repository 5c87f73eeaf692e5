/** Before a server is ready its templates are: each is baked when it is missing, told step by step, and tried again. */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { SandboxHost } from "../contract/routes.ts";
import { LIMITS } from "../limits.ts";
import type { HealthBoard } from "./health.ts";

export interface BakesParts {
  readonly host: Pick<SandboxHost, "templates" | "bake">;
  /** Makes a baked template quick to use: opens it, and fills the pool. */
  warm(template: string, signal: AbortSignal): Promise<void>;
  readonly health: HealthBoard;
  readonly clock: Clock;
  readonly log: Log;
  /** Told of each step. */
  onStep(template: string, step: number, steps: number, says: string): void;
  readonly signal: AbortSignal;
}

/** Ends when all are baked, or with the signal; never fails. */
export async function bakeShipped(parts: BakesParts): Promise<void> {
  const { health, clock, log, signal } = parts;
  while (!signal.aborted) {
    const left = await bakeAll(parts).catch((cause: unknown) => {
      log.error("the templates could not be listed", { cause: String(cause) });
      return 1;
    });
    if (signal.aborted) return;
    if (left === 0) {
      health.baked();
      return;
    }
    await clock.sleep(LIMITS.bakeRetryMs, signal).catch(() => undefined); // ends with the server
  }
}

/** @returns how many could not be made ready */
async function bakeAll(parts: BakesParts): Promise<number> {
  const { host, health, log, signal } = parts;
  let left = 0;
  for (const { name } of await host.templates({})) {
    const about = `template ${name}`;
    try {
      await bakeOne(parts, name);
      health.trouble(about, null);
    } catch (cause) {
      if (signal.aborted) return left;
      const says = cause instanceof Error ? cause.message : String(cause);
      log.error("a template could not be made ready", { template: name, cause: says });
      health.trouble(about, `${about} could not be made ready, and will be tried again: ${says}`);
      left += 1;
    }
  }
  return left;
}

async function bakeOne({ host, warm, health, onStep, signal }: BakesParts, name: string): Promise<void> {
  for await (const { step, steps, says } of await host.bake({ name }, { signal })) {
    health.baking({ template: name, step, steps, says });
    onStep(name, step, steps, says);
  }
  signal.throwIfAborted();
  await warm(name, signal);
}
