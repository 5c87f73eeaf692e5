/** `warren billing usage`: what this account, or one sandbox, has used until now. */
import type { Me } from "../../../contract/routes/api/accounts.ts";
import type { SandboxUsage, UsageReport } from "../../../contract/routes/api/billing.ts";
import type { Define, Verb } from "../../verb.ts";
import type { RangeFlags } from "./ask.ts";
import { rangeOptions } from "./ask.ts";

const EXAMPLES = `
Examples:
  $ warren billing usage
  $ warren billing usage --from 2026-11-01 --to 2026-11-08
  $ warren billing usage sb_abc
  $ warren billing usage --json`;

export const defineUsage: Define = (billing, verb) => {
  const command = billing
    .command("usage")
    .summary("what was used until now, and what that costs")
    .description("Show what this account has used this month, or what one sandbox has, also after its end.")
    .argument("[sandbox]", "the id of one; then there is no range");
  rangeOptions(command)
    .option("--json", "as JSON, exact")
    .addHelpText("after", EXAMPLES)
    .action((id: string | undefined, options: RangeFlags, of) => {
      if (id === undefined) return usage(verb, options);
      if (options.from !== undefined || options.to !== undefined)
        of.error("error: a sandbox's usage is of its whole life: leave out --from and --to, or the sandbox");
      return ofSandbox(verb, id, options);
    });
};

/** A line for each meter that counted anything. */
async function meterRows(meters: Readonly<Record<string, string>>): Promise<string[][]> {
  const { metersOf } = await import("../../../report/formats/grid.ts");
  const { meterTitle, quantity } = await import("../../../report/numbers/quantity.ts");
  const counted = metersOf({ meters: { ...meters } }).filter((name) => !/^0*$/.test(meters[name] ?? "0"));
  return counted.map((name) => {
    const { title, unit } = meterTitle(name);
    return [title, `${quantity(name, meters[name] ?? "0")} ${unit}`.trimEnd()];
  });
}

/** Null: the key may not read its account. */
async function meOf(verb: Verb): Promise<Me | null> {
  const { isWarrenError } = await import("../../../errors.ts");
  const { asking } = await import("./ask.ts");
  try {
    return await asking(verb, (api, options) => api.me({}, options));
  } catch (error) {
    if (isWarrenError(error, "forbidden")) return null;
    throw error;
  }
}

function costOf({ total, currency }: UsageReport): string {
  return `${total} ${currency}, before plans and credit`;
}

async function usage(verb: Verb, { from, to, account, json }: RangeFlags): Promise<void> {
  const { io } = verb;
  const { given } = await import("../../arguments.ts");
  const { printJson } = await import("../../ground/io.ts");
  const { table } = await import("../../text/format.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const { asking } = await import("./ask.ts");
  const report = await asking(verb, (api, options) => api.usage(given({ from, to, account }), options));
  if (json === true) return printJson(io, report);
  const me = account === undefined ? await meOf(verb) : null; // that is of the key's own account
  const now = me === null ? [] : [["now", nowOf(me)]];
  const credit = me?.account.creditUsd === null || me === null ? [] : [["credit", `${me.account.creditUsd} USD left`]];
  const rows = [
    ...(me === null && account === undefined ? [] : [["account", account ?? me?.account.id ?? ""]]),
    ["from", `${report.from} (days of ${report.timeZone})`],
    ["to", report.to],
    ["seen until", report.seenUntil],
    ...now,
    ...(await meterRows(report.meters)),
    ["cost", costOf(report)],
    ...credit,
  ];
  await io.out.write(table(rows.map((row) => row.map(escapeLine))));
}

function nowOf({ usage: { sandboxes, vcpus, memoryMb } }: Me): string {
  return `${sandboxes} sandboxes, ${vcpus} vCPUs, ${memoryMb} MiB`;
}

async function ofSandbox(verb: Verb, id: string, { account, json }: RangeFlags): Promise<void> {
  const { io } = verb;
  const { printJson } = await import("../../ground/io.ts");
  const { table } = await import("../../text/format.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const { given } = await import("../../arguments.ts");
  const { asking } = await import("./ask.ts");
  const asked = { id, ...given({ account }) };
  const used: SandboxUsage = await asking(verb, (api, options) => api.sandboxUsage(asked, options));
  if (json === true) return printJson(io, used);
  const rows = [
    ["sandbox", used.sandbox],
    ["from", used.from ?? "it has not run"],
    ["to", `${used.to ?? "-"}${used.open ? " (it goes on)" : ""}`],
    ...(await meterRows(used.meters)),
    ["cost", `${used.amount} ${used.currency}, before plans and credit`],
  ];
  await io.out.write(table(rows.map((row) => row.map(escapeLine))));
}
