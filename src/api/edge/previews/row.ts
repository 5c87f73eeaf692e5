/** `preview-token`: a URL by which anyone reaches a port for a time. */
import type { Clock } from "../../../base/clock.ts";
import { WarrenError } from "../../../errors.ts";
import type { RowCalls } from "../../parts.ts";
import { BOUNDS } from "../bounds.ts";
import { isEnd } from "../moves.ts";
import { ruleOf } from "./rules.ts";
import type { PreviewTokens } from "./token.ts";

/** @throws {WarrenError} `invalid_request` – a path that servers may read in two ways, or too many of them */
function checked(paths: readonly string[]): readonly string[] {
  for (const path of paths) {
    if (ruleOf(path) !== null) continue;
    const says = `paths: ${JSON.stringify(path.slice(0, 80))} is no exact path (/report.html) and no /folder/*; it may hold no dot segments, empty segments, backslashes, semicolons or wildcards elsewhere`;
    throw new WarrenError("invalid_request", says, { details: { field: "paths" } });
  }
  const chars = JSON.stringify(paths).length;
  if (chars <= BOUNDS.previewPathChars) return paths;
  const says = `paths: together they have ${chars} characters, at most ${BOUNDS.previewPathChars} fit into a URL`;
  throw new WarrenError("invalid_request", says, { details: { field: "paths" } });
}

/** Where to begin: at the root, or at the only path there is. */
function firstOf(paths: readonly string[] | null): string {
  const first = paths?.[0];
  if (first === undefined) return "/";
  const path = first.endsWith("/*") ? first.slice(0, -1) : first;
  return path.includes("%") ? path : encodeURI(path);
}

export function previewRow(tokens: PreviewTokens, clock: Clock): RowCalls<"previewToken"> {
  return {
    previewToken: async ({ host, account, origin }, { id, port, ttlSeconds, paths: asked }) => {
      const paths = asked === undefined ? null : checked(asked);
      const { state } = await host.get({ id });
      if (isEnd(state) || state === "stopping") throw new WarrenError("not_found", `sandbox ${id} has ended`);
      const expiresAtMs = (Math.ceil(clock.wallMs() / 1000) + (ttlSeconds ?? BOUNDS.previewSeconds)) * 1000;
      const token = await tokens.seal({ account, sandbox: id, port, paths }, expiresAtMs);
      const url = `${origin}/v1/p/${token}${firstOf(paths)}`;
      return { url, token, expiresAt: new Date(expiresAtMs).toISOString() };
    },
  };
}
