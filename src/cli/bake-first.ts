/** Makes sure of a template before anything waits for it silently: builds what is missing, telling each step. */

import { escapeLine } from "../base/escape.ts";
import type { BakeEvent } from "../contract/routes/templates.ts";
import type { SandboxHost } from "../contract/routes.ts";
import { isWarrenError } from "../errors.ts";
import type { Io } from "./ground/io.ts";
import { duration } from "./text/format.ts";
import { Progress } from "./text/progress.ts";

export interface Size {
  readonly cpu?: number;
  readonly memoryMb?: number;
}

export interface BakeOptions extends Size {
  readonly force?: boolean;
}

/** Shows a bake from its first step on; nothing when there is nothing to do. The result is how many steps there were. */
export async function showBake(
  io: Io,
  host: SandboxHost,
  name: string,
  options: BakeOptions,
  signal: AbortSignal,
): Promise<number> {
  const startedMs = io.clock.monotonicMs();
  let last: BakeEvent | null = null;
  let steps = 0;
  const status = () => {
    const since = duration(io.clock.monotonicMs() - startedMs);
    if (last === null) return `warren: looking at template ${escapeLine(name)}, ${since} so far`;
    return `warren: baking ${escapeLine(name)}, step ${last.step} of ${last.steps}: ${escapeLine(last.says)}, ${since} so far`;
  };
  await using progress = new Progress(io, status);
  for await (const event of await host.bake({ name, ...options }, { signal })) {
    steps += 1;
    last = event;
    const says = `${event.step}/${event.steps} ${escapeLine(event.says)}`;
    await progress.note(`warren: baking ${escapeLine(name)}: ${says}`);
  }
  if (steps > 0)
    await progress.note(`warren: ${escapeLine(name)} is baked, in ${duration(io.clock.monotonicMs() - startedMs)}`);
  return steps;
}

/** The same; a key of a server's that may not bake leaves that to the create. */
export async function withTemplate(
  io: Io,
  host: SandboxHost,
  name: string,
  size: Size,
  signal: AbortSignal,
): Promise<void> {
  try {
    await showBake(io, host, name, size, signal);
  } catch (cause) {
    if (!isWarrenError(cause, "forbidden")) throw cause;
  }
}
