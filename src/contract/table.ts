/** The whole table of the API: what a handle can ask for (`routes`), and what only a server has. */
import type { Calls, Contract } from "./route.ts";
import { accountRoutes } from "./routes/api/accounts.ts";
import { billingRoutes } from "./routes/api/billing.ts";
import { booksRoutes } from "./routes/api/books.ts";
import { callRoutes } from "./routes/api/calls.ts";
import { webhookRoutes } from "./routes/api/webhooks.ts";
import { routes } from "./routes.ts";

/** Rows that a server adds. */
export const apiRoutes = {
  ...callRoutes,
  ...accountRoutes,
  ...webhookRoutes,
  ...billingRoutes,
  ...booksRoutes,
} as const satisfies Contract;

export const table = { ...routes, ...apiRoutes } as const satisfies Contract;
export type RowName = keyof typeof table;

/** What a server implements beside a `SandboxHost`, for one key. */
export type ApiHost = Calls<typeof apiRoutes>;
