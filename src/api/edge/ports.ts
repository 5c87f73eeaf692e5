/** Ports of a sandbox with their labels and URLs. A label makes nothing reachable that was not, and says nothing of what listens. */
import type { ExposedPort } from "../../contract/routes/api/calls.ts";
import { WarrenError } from "../../errors.ts";
import type { RequestContext, RowCalls } from "../parts.ts";
import type { Store } from "../store.ts";

function urlOf({ origin }: RequestContext, id: string, port: number): string {
  return `${origin}/v1/sandboxes/${id}/proxy/${port}/`;
}

export function portRows(store: Store): RowCalls<"exposedPorts" | "exposePort" | "unexposePort"> {
  const listening = async ({ host, signal }: RequestContext, id: string): Promise<ReadonlySet<number>> =>
    new Set((await host.ports({ id }, { signal })).map(({ port }) => port));
  return {
    exposedPorts: async (context, { id }) => {
      const listens = await listening(context, id);
      const labels = await store.portLabels(context.account, id);
      const all = [...new Set([...listens, ...labels.keys()])].sort((a, b) => a - b);
      return all.map((port): ExposedPort => {
        const label = labels.get(port);
        return {
          port,
          ...(typeof label === "string" ? { label } : {}),
          listening: listens.has(port),
          source: labels.has(port) ? "declared" : "detected",
          url: urlOf(context, id, port),
        };
      });
    },
    exposePort: async (context, { id, port, label }) => {
      const listens = await listening(context, id);
      await store.labelPort(context.account, id, port, label ?? null);
      const named = label === undefined ? {} : { label };
      return { port, ...named, listening: listens.has(port), source: "declared", url: urlOf(context, id, port) };
    },
    unexposePort: async ({ account }, { id, port }) => {
      if (await store.unlabelPort(account, id, port)) return;
      throw new WarrenError("not_found", `port ${port} of sandbox ${id} has no label`, { details: { id, port } });
    },
  };
}
