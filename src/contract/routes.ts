/** The contract: one row per operation, joined from one file per area. Everything outside-facing follows from this table. */
import type { Calls, Contract } from "./route.ts";
import { contextRoutes } from "./routes/contexts.ts";
import { execRoutes } from "./routes/exec.ts";
import { fileRoutes } from "./routes/files.ts";
import { forkRoutes } from "./routes/forks.ts";
import { networkRoutes } from "./routes/network.ts";
import { portRoutes } from "./routes/ports.ts";
import { sandboxRoutes } from "./routes/sandboxes.ts";
import { snapshotRoutes } from "./routes/snapshots.ts";
import { templateRoutes } from "./routes/templates.ts";
import { volumeRoutes } from "./routes/volumes.ts";

export const routes = {
  ...sandboxRoutes,
  ...execRoutes,
  ...contextRoutes,
  ...fileRoutes,
  ...portRoutes,
  ...forkRoutes,
  ...networkRoutes,
  ...snapshotRoutes,
  ...templateRoutes,
  ...volumeRoutes,
} as const satisfies Contract;

/** What a handle talks to; it cannot tell whether the engine or an HTTP client is behind it. */
export type SandboxHost = Calls<typeof routes>;
