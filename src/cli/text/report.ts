/** An error as a person sees it: what happened, and with `--verbose` why. */

import { escapeLine } from "../../base/escape.ts";
import { isWarrenError, type WarrenError } from "../../errors.ts";

const CAUSES_MAX = 10;

function causes(error: unknown): string[] {
  const lines: string[] = [];
  let cause: unknown = error instanceof Error ? error.cause : undefined;
  while (cause !== undefined && lines.length < CAUSES_MAX) {
    lines.push(`  because ${escapeLine(cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause))}`);
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return lines;
}

const ADVICE: Readonly<Partial<Record<WarrenError["code"], string>>> = {
  permission_denied: "run it as root, or see `warren doctor`",
  host_unsupported: "see `warren doctor` for what this host lacks",
  storage_exhausted: "free some space where WARREN_HOME is",
  template_not_found: "see `warren templates ls`",
};

/** What lists the things of which there is none by that name. */
const LISTS: readonly (readonly [RegExp, string])[] = [
  [/^there is no invoice /, "see `warren billing invoice`"],
  [/^there is no list /, "see `warren billing prices lists`"],
  [/^there is no sink /, "see `warren billing sinks ls`"],
  [/^there is no account /, "see `warren accounts ls`"],
  [/there is no (plan|entry) /, ""],
];

function whereListed(message: string): string {
  return LISTS.find(([pattern]) => pattern.test(message))?.[1] ?? "see `warren ls`";
}

function isOfPaused({ code, details }: WarrenError): boolean {
  return code === "wrong_state" && details["state"] === "paused";
}

/** Lines for stderr, escaped. */
export function reportOf(error: unknown, verbose: boolean): string {
  if (!isWarrenError(error)) {
    const says = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const stack = verbose && error instanceof Error ? (error.stack ?? "").split("\n").slice(1).map(escapeLine) : [];
    const hint = verbose ? [] : ["  this is a fault of Warren's own; --verbose shows where it came from"];
    return [`warren: ${escapeLine(says)}`, ...stack, ...causes(error), ...hint, ""].join("\n");
  }
  const found = error.code === "not_found" ? whereListed(error.message) : ADVICE[error.code];
  const advice = found ?? (isOfPaused(error) ? "let it go on with `warren resume`" : undefined);
  // A message that names what to do has said it; the table is for those that cannot know.
  const then = (advice ?? "") === "" || error.message.includes("warren ") ? [] : [`  ${advice}`];
  return [`warren: ${escapeLine(error.message)}`, ...then, ...(verbose ? causes(error) : []), ""].join("\n");
}
