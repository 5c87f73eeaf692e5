/**
 * Previews: programs in sandboxes for whoever has their URL. `/v1/p/{token}/…` opens one port, or some of its paths, for a time;
 * `{port}-{id}.<suffix>` opens every port of a sandbox whose id the visitor knows, which is the only secret then: for servers
 * that were told a suffix alone. Neither outlives its sandbox.
 */
import type { ApiContext, ApiHono, AppParts } from "../../parts.ts";
import { queryWithoutKey } from "../proxy/headers.ts";
import type { Serve } from "../proxy/serve.ts";
import { absent, refused } from "./page.ts";
import { opens, ruleOf } from "./rules.ts";
import type { PreviewTokens } from "./token.ts";

const PATH = /^\/v1\/p\/([^/]+)(\/.*)?$/;

export interface Previews {
  readonly parts: AppParts;
  readonly tokens: PreviewTokens;
  /** The account of a sandbox that has not ended; null: there is none. */
  readonly ownerOf: (sandbox: string) => Promise<string | null>;
  readonly serve: Serve;
}

const nowhere = (): null => null;

function originOf({ parts }: Previews, context: ApiContext): string {
  return parts.settings.publicUrl ?? new URL(context.req.raw.url).origin;
}

async function byToken(previews: Previews, context: ApiContext): Promise<Response> {
  const request = context.req.raw;
  context.var.entry.row = "preview";
  const { pathname, search } = new URL(request.url);
  const [, token = "", path] = PATH.exec(pathname) ?? [];
  const preview = await previews.tokens.open(token);
  if (preview === null || request.headers.has("service-worker")) return absent();
  const { account, sandbox, port, paths } = preview;
  const origin = originOf(previews, context);
  const prefix = `/v1/p/${token}`;
  if (path === undefined) return context.redirect(`${origin}${prefix}/${search}`, 307);
  const rules = paths === null ? null : paths.map(ruleOf).filter((rule) => rule !== null);
  if (!opens(rules, path)) return absent();
  const target = { host: previews.parts.hostFor(account), id: sandbox, port };
  const passage = { account, target, origin, prefix, isAlone: false, prefixOf: nowhere };
  try {
    return await previews.serve(context, { ...passage, path: path + queryWithoutKey(search, "ours") });
  } catch (cause) {
    return refused(cause);
  }
}

/** The port and sandbox that a host name stands for; null when it is one of the server's own names. */
export function hostPreview(host: string, suffix: string): { readonly port: number; readonly sandbox: string } | null {
  const name = host.toLowerCase().replace(/:\d{1,5}$/, "");
  if (!name.endsWith(`.${suffix.toLowerCase()}`)) return null;
  const label = name.slice(0, -suffix.length - 1);
  const [, port, sandbox] = /^([1-9]\d{0,4})-([a-z0-9_-]{1,64})$/.exec(label) ?? [];
  if (port === undefined || sandbox === undefined || Number(port) > 65_535) return null;
  return { port: Number(port), sandbox };
}

async function byHost(
  previews: Previews,
  context: ApiContext,
  { port, sandbox }: { readonly port: number; readonly sandbox: string },
): Promise<Response> {
  const request = context.req.raw;
  const url = new URL(request.url);
  context.var.entry.row = "preview";
  try {
    const account = await previews.ownerOf(sandbox);
    if (account === null) return absent();
    const target = { host: previews.parts.hostFor(account), id: sandbox, port };
    const scheme = new URL(originOf(previews, context)).protocol;
    const origin = `${scheme}//${url.host}`;
    const path = url.pathname + queryWithoutKey(url.search, "ours");
    const passage = { account, target, origin, prefix: "", isAlone: true, prefixOf: nowhere };
    return await previews.serve(context, { ...passage, path });
  } catch (cause) {
    return refused(cause);
  }
}

/** A preview with a host of its own has all of that host's paths. */
export function mountHostPreviews(hono: ApiHono, previews: Previews): void {
  const { previewSuffix } = previews.parts.settings;
  if (previewSuffix === null) return;
  hono.use(async (context, next) => {
    const named = hostPreview(context.req.header("host") ?? "", previewSuffix);
    return named === null ? next() : byHost(previews, context, named);
  });
}

export function mountPreviews(hono: ApiHono, previews: Previews): void {
  const handler = (context: ApiContext): Promise<Response> => byToken(previews, context);
  hono.all("/v1/p/:token", handler);
  hono.all("/v1/p/:token/*", handler);
}
