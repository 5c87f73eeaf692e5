/** Where a program in a sandbox sends its clients: within it, to where it is seen from outside; elsewhere, as it says. Pure. */
import { portWithin } from "../../../sandbox/ports/address.ts";
import type { Front } from "./headers.ts";

/**
 * A `Location` for the client, absolute; null when there is nowhere to go.
 * @param at what the program was asked for, for instance `http://localhost:8000/page`
 * @param prefixOf what stands before the paths of another port of the same sandbox; null when it is not seen from outside
 */
export function located(
  location: string,
  at: URL,
  front: Front,
  prefixOf: (port: number) => string | null,
): string | null {
  if (!URL.canParse(location, at)) return null;
  const next = new URL(location, at);
  if (next.protocol !== "http:" && next.protocol !== "https:") return null;
  const rest = next.search + next.hash;
  if (next.origin === front.origin || next.origin === at.origin) {
    return front.origin + under(front.prefix, next.pathname) + rest;
  }
  const port = portWithin(next);
  if (port === null) return next.href;
  const ownPort = portWithin(at);
  const prefix = port === ownPort ? front.prefix : prefixOf(port);
  return prefix === null ? null : front.origin + under(prefix, next.pathname) + rest;
}

/** A program that knows its prefix says it by itself. */
function under(prefix: string, path: string): string {
  return prefix !== "" && (path === prefix || path.startsWith(`${prefix}/`)) ? path : prefix + path;
}
