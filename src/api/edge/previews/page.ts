/** What a visitor of a preview sees instead of it: nothing about whose it is or why. */
import { isWarrenError, type WarrenError } from "../../../errors.ts";

function page(status: number, says: string): Response {
  const headers = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": "sandbox; default-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
  };
  return new Response(`<!doctype html><title>Preview</title><p>${says}</p>\n`, { status, headers });
}

/** Wrong, over, not for this path, or its sandbox has ended: nobody learns which. */
export function absent(): Response {
  return page(404, "There is no preview at this address, or its time is over.");
}

const GONE: ReadonlySet<string> = new Set(["not_found", "sandbox_lost", "wrong_state"] satisfies WarrenError["code"][]);

/** @throws what is no answer for a visitor, for instance a defect of ours */
export function refused(error: unknown): Response {
  if (!isWarrenError(error)) throw error;
  if (GONE.has(error.code)) return absent();
  if (error.code === "guest_protocol") return page(502, "The program behind this preview did not answer.");
  if (error.code === "rate_limited") return page(429, "This preview has too many visitors right now.");
  if (error.fault === "caller") return page(400, "This preview does not take such a request.");
  return page(503, "This preview cannot be reached right now.");
}
