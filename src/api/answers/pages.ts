/** Lists in pages: one row more than was asked for tells whether there is another page, and the last row shown has its cursor. */

import type { Static } from "@sinclair/typebox";
import { cursorOf, type SandboxInfo, type SandboxList } from "../../contract/routes/sandboxes.ts";
import { BOUNDS } from "../bounds.ts";
import type { RequestContext } from "../parts.ts";
import type { Fields } from "../request.ts";

export interface Page {
  readonly value: readonly SandboxInfo[];
  readonly headers: Readonly<Record<string, string>>;
}

export async function paged({ host, url, origin, signal }: RequestContext, { input }: Fields): Promise<Page> {
  const asked = input as Static<typeof SandboxList>;
  const limit = asked.limit ?? BOUNDS.listRows;
  const more = Math.min(limit + 1, BOUNDS.listRows);
  const found = await host.list({ ...asked, limit: more }, { signal });
  const value = found.slice(0, limit);
  const last = value.at(-1);
  if (last === undefined || found.length < more) return { value, headers: {} };
  const next = new URL(url.pathname + url.search, origin);
  const cursor = cursorOf(last);
  next.searchParams.set("cursor", cursor);
  return { value, headers: { "x-next-cursor": cursor, link: `<${next.href}>; rel="next"` } };
}
