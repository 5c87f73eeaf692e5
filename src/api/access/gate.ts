/** The way in: a key, an account that may, a rate, a scope. In that order, so that who has no key learns nothing. */
import type { Scope } from "../../contract/route.ts";
import type { SandboxHost } from "../../contract/routes.ts";
import { WarrenError } from "../../errors.ts";
import type { ApiContext, AppParts, Gate, RequestContext } from "../parts.ts";
import { tokenOf } from "../request.ts";
import type { KnownKey } from "../store.ts";
import type { Keys } from "./keys.ts";
import { Rate } from "./rate.ts";
import type { Requests } from "./under-way.ts";

export interface GateParts extends Pick<AppParts, "clock" | "settings"> {
  readonly keys: Keys;
  readonly requests: Requests;
  /** What an account's requests get as their host. */
  hostOf(key: KnownKey, request: Request): SandboxHost;
}

/** `admin` includes all others. */
export function mayDo(key: KnownKey, scope: Scope): boolean {
  return key.scopes.includes(scope) || key.scopes.includes("admin");
}

export function createGate(parts: GateParts): Gate {
  const { keys, clock, settings, requests } = parts;
  const rate = new Rate(clock);

  const authenticate = async (context: ApiContext, url: URL, query: boolean): Promise<KnownKey> => {
    const token = tokenOf(context.req.raw, url, { query });
    if (token === null)
      throw new WarrenError("unauthorized", "an API key is needed: send it as Authorization: Bearer wrn_…");
    const address = context.env.server?.requestIP(context.req.raw)?.address ?? null;
    const key = await keys.find(token, address);
    const { entry } = context.var;
    entry.account = key.account.id;
    entry.key = key.prefix;
    return key;
  };

  return {
    async authorize(context, { name, scope, queryToken = false }): Promise<RequestContext> {
      const request = context.req.raw;
      const { requestId, under, entry } = context.var;
      entry.row = name;
      if (requests.closing) throw new WarrenError("shutting_down", "this server is ending: ask again in a moment");
      const url = new URL(request.url);
      const key = await authenticate(context, url, queryToken);
      const { account } = key;
      if (account.suspended) throw new WarrenError("forbidden", `the account ${account.id} is suspended`);
      rate.take(account.id, account.quota.requestsPerSecond ?? settings.requestsPerSecond);
      if (!mayDo(key, scope))
        throw new WarrenError("forbidden", `the API key ${key.prefix}… lacks the scope ${scope}`, {
          details: { scope },
        });
      // It may take as long as its row says: the runtime's own bound is for who has no key.
      context.env.server?.timeout(request, 0);
      url.searchParams.delete("access_token");
      const origin = settings.publicUrl ?? url.origin;
      const { signal } = under;
      return { account: account.id, key, requestId, signal, host: parts.hostOf(key, request), url, origin };
    },
  };
}
