/** The contract's calls on how long a sandbox lives and what it uses. */
import { parse } from "../../contract/parse.ts";
import type { SandboxInfo } from "../../contract/routes/sandboxes.ts";
import { routes, type SandboxHost } from "../../contract/routes.ts";
import type { Idle } from "../fork/idle.ts";
import type { Hold } from "../hold.ts";
import { isTerminal, type Lifecycle } from "../lifecycle.ts";
import type { Live } from "../live.ts";
import { notRunning } from "../reached.ts";
import type { Registry } from "../registry.ts";
import { recordOf } from "../registry.ts";
import { changeLifetime, type LifetimeParts, lifetimeOf } from "./lifetime.ts";
import { metricsOf } from "./metrics.ts";

type LifeCalls = Pick<SandboxHost, "lifecycle" | "setLifecycle" | "metrics">;

export interface LifeParts {
  readonly parts: LifetimeParts & { readonly registry: Registry };
  readonly lifecycle: Lifecycle;
  readonly idle: Idle;
  readonly hold: Hold;
}

/** An account's sandboxes. */
export interface Finding {
  /** Whoever made it, in any state. @throws {WarrenError} `not_found` */
  readonly info: (id: string) => Promise<SandboxInfo>;
  /** Of this process. @throws {WarrenError} `not_found`; `unsupported` – another process made it */
  readonly mine: (id: string) => Promise<Live>;
  /** The same, woken when it hibernates. */
  readonly awake: (id: string) => Promise<Live>;
}

export function lifeCalls({ parts, lifecycle, idle, hold }: LifeParts, { info, mine, awake }: Finding): LifeCalls {
  return {
    lifecycle: (input) =>
      hold.during(async () => {
        const { id } = parse(routes.lifecycle.input, input);
        return lifetimeOf(await info(id), idle.seconds(id));
      }),
    setLifecycle: (input) =>
      hold.during(async () => {
        const { id, ...change } = parse(routes.setLifecycle.input, input);
        return idle.during(id, async () => {
          const live = await awake(id);
          if (live.info.state === "stopping" || isTerminal(live)) throw notRunning(live.info);
          changeLifetime(parts, lifecycle, live, change);
          // Others, and whoever finds it after us, know it by its record.
          if (live.body !== null) await parts.registry.put(recordOf(live, live.body));
          return lifetimeOf(live.info, 0);
        });
      }),
    metrics: (input) =>
      hold.during(async () => metricsOf(parts.host, await mine(parse(routes.metrics.input, input).id))),
  };
}
