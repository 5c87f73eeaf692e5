/** `/metrics`, for who has a key of an admin, and for a collector on this very machine. */
import { parseAddress, unmapped } from "../../../base/address.ts";
import type { ApiContext, ApiHono, ApiSettings, Gate } from "../../parts.ts";
import type { Meters } from "./meters.ts";

const LOOPBACK_4 = 127n;
const FORWARDED = ["forwarded", "x-forwarded-for", "x-real-ip", "via", "cf-connecting-ip"];

function isLoopback(text: string): boolean {
  const address = parseAddress(text);
  if (address === null) return false;
  const { family, value } = unmapped(address);
  return family === 4 ? value >> 24n === LOOPBACK_4 : value === 1n;
}

/** Nobody in front of this server may stand for somebody else, and no page of a browser may make it ask by another name. */
function isFromHere({ req, env }: ApiContext): boolean {
  const address = env.server?.requestIP(req.raw)?.address;
  if (address === undefined || !isLoopback(address)) return false;
  if (FORWARDED.some((name) => req.header(name) !== undefined)) return false;
  return /^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/.test(req.header("host") ?? "");
}

export function mountMetrics(hono: ApiHono, gate: Gate, meters: Meters, { openMetrics }: ApiSettings): void {
  hono.get("/metrics", async (context) => {
    if (!openMetrics && !isFromHere(context)) await gate.authorize(context, { name: "prometheus", scope: "admin" });
    const text = await meters.text();
    if (text === null) return context.text("there are no metrics: see the server's log\n", 503);
    return new Response(text.body, { headers: { "content-type": text.contentType, "cache-control": "no-store" } });
  });
}
