/** Around every request: its id, its bounds, its failure as an answer, its line in the access log and its row in the audit. */

import { type RowName, table } from "../contract/table.ts";
import { isWarrenError, WarrenError } from "../errors.ts";
import type { Audit } from "./access/audit.ts";
import type { Requests } from "./access/under-way.ts";
import { failure, logged, told } from "./answers/answer.ts";
import type { ApiContext, ApiHono, AppParts, Edge, Entry } from "./parts.ts";
import { refuseUnfit, requestIdOf } from "./request.ts";

interface Outer {
  readonly parts: AppParts;
  readonly audit: Audit;
  readonly requests: Requests;
  readonly edge: Edge | null;
}

export function answerAll(hono: ApiHono, { parts, audit, requests, edge }: Outer): void {
  const { clock, log } = parts;
  hono.use("*", async (context, next) => {
    const request = context.req.raw;
    const requestId = requestIdOf(request);
    const beganMs = clock.monotonicMs();
    const { under, end } = requests.begin(request.signal);
    const entry: Entry = { row: null, account: null, key: null, target: null, changes: false };
    context.set("requestId", requestId);
    context.set("under", under);
    context.set("entry", entry);
    try {
      refuseUnfit(request);
      await next();
    } finally {
      end();
    }
    const { status } = context.res;
    context.res.headers.set("x-request-id", requestId);
    const { row, account, key, target, changes } = entry;
    const durationMs = clock.monotonicMs() - beganMs;
    if (row !== null) edge?.answered(row, status, durationMs);
    const ms = Math.round(durationMs * 10) / 10;
    log.info("request", { request: requestId, method: request.method, row, account, key, status, ms });
    if (changes && row !== null && key !== null)
      audit.add({
        at: new Date(clock.wallMs()).toISOString(),
        account,
        actor: key,
        action: row,
        target,
        status,
        requestId,
      });
  });
  hono.notFound((context) => failed(context, new WarrenError("not_found", "there is nothing under this path"), parts));
  hono.onError((cause, context) => failed(context as ApiContext, cause, parts));
}

function failed(context: ApiContext, cause: unknown, { log }: AppParts): Response {
  const requestId = context.get("requestId");
  const { row } = context.get("entry");
  const error = told(cause);
  if (!isWarrenError(cause) || error.fault !== "caller") logged(error, log, requestId);
  const route = row !== null && Object.hasOwn(table, row) ? table[row as RowName] : undefined;
  return failure(error, requestId, route);
}
