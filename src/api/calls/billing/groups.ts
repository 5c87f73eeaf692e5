/** `day,template,metadata.team` → what a report is grouped by. Pure. */
import { WarrenError } from "../../../errors.ts";
import type { Grouping } from "../../billing.ts";

const GROUPS_MAX = 3;
const ALLOWED = `up to ${GROUPS_MAX} of day, sandbox, template and metadata.KEY, with commas between them`;

function refusal(says: string): WarrenError {
  return new WarrenError("invalid_request", `groupBy: ${says}, allowed are ${ALLOWED}`, {
    details: { field: "groupBy", allowed: ALLOWED },
  });
}

function groupOf(name: string): Grouping {
  if (name === "day" || name === "sandbox" || name === "template") return { kind: name };
  const key = name.startsWith("metadata.") ? name.slice("metadata.".length) : "";
  if (key === "" || key.length > 128 || key.includes("\u0000"))
    throw refusal(`got ${JSON.stringify(name.slice(0, 160))}`);
  return { kind: "metadata", key };
}

/** The name that a report has for it. */
export function groupName(group: Grouping): string {
  return group.kind === "metadata" ? `metadata.${group.key}` : group.kind;
}

/** @throws {WarrenError} `invalid_request` – one that is unknown, or comes twice, or too many */
export function groupsOf(text: string | undefined): readonly Grouping[] {
  if (text === undefined) return [];
  const names = text.split(",");
  if (names.length > GROUPS_MAX) throw refusal(`got ${names.length}`);
  const twice = names.find((name, at) => names.indexOf(name) < at);
  if (twice !== undefined) throw refusal(`got ${JSON.stringify(twice.slice(0, 160))} twice`);
  return names.map(groupOf);
}
