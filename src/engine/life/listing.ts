/** Which sandboxes a listing tells, and from where on. Pure. */
import type { Static } from "@sinclair/typebox";
import { cursorOf, type SandboxInfo, type SandboxList } from "../../contract/routes/sandboxes.ts";

/** Newest first; of the same millisecond, what comes last in `all`. */
export function selected(all: readonly SandboxInfo[], asked: Static<typeof SandboxList>): SandboxInfo[] {
  const { state, template, metadata = {}, limit, after } = asked;
  const wanted = Object.entries(metadata);
  const found = all
    .toReversed() // sorting keeps the order of what was made in the same millisecond
    .filter((info) => (state ?? info.state) === info.state && (template ?? info.template) === info.template)
    .filter((info) => wanted.every(([key, value]) => info.metadata[key] === value))
    .sort((a, b) => b.createdAt.localeCompare(a.createdAt));
  return (after === undefined ? found : beyond(found, after)).slice(0, limit);
}

/** After the one that the cursor is of, also when that has ended since. */
function beyond(found: readonly SandboxInfo[], after: string): SandboxInfo[] {
  const at = found.findIndex((info) => cursorOf(info) === after);
  if (at >= 0) return found.slice(at + 1);
  const createdAt = after.slice(0, after.indexOf("/"));
  return found.filter((info) => info.createdAt < createdAt);
}
