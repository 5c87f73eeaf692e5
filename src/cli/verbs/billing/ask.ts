/** What the verbs about billing have in common: the range that they are about, and calls whose errors name the options. */
import type { CallOptions } from "../../../contract/route.ts";
import type { ApiHost } from "../../../contract/table.ts";
import type { Define, Verb } from "../../verb.ts";

type Command = ReturnType<Parameters<Define>[0]["command"]>;

export interface RangeFlags {
  readonly account?: string;
  readonly from?: string;
  readonly to?: string;
  readonly json?: boolean;
}

/** Of what is asked for in days of the account's time zone. */
export function rangeOptions(command: Command): Command {
  return command
    .option("--from <when>", "a day, or an instant as 2026-11-21T10:00:00Z; default the beginning of this month")
    .option("--to <when>", "its end, which is not in it; default now")
    .option(...ACCOUNT);
}

/** Of whatever may be asked about another account. */
export const ACCOUNT = ["--account <id>", "another account's, with an administrator's key"] as const;

const OPTIONS: Readonly<Record<string, string>> = {
  groupBy: "--group-by",
  fromDay: "--from-day",
  from: "--from",
  to: "--to",
  timeZone: "--time-zone",
  quantity: "--quantity",
  account: "--account",
};

/** An error about a field is about the option that it was given by. */
async function named(error: unknown): Promise<unknown> {
  const { isWarrenError, WarrenError } = await import("../../../errors.ts");
  if (!isWarrenError(error)) return error;
  const { code, message, details, cause } = error;
  const field = String(details["field"]);
  const option = Object.hasOwn(OPTIONS, field) ? OPTIONS[field] : undefined;
  if (option === undefined || !message.startsWith(`${field}: `)) return error;
  return new WarrenError(code, option + message.slice(field.length), { details, cause });
}

/** Runs `job` over the server that is meant, until it is done or Ctrl-C. */
export async function asking<T>(
  verb: Verb,
  job: (api: ApiHost, options: Required<Pick<CallOptions, "signal">>) => Promise<T>,
): Promise<T> {
  const { interruptible, withServer } = await import("../../verb.ts");
  try {
    return await withServer(verb, (api) => interruptible(verb.io, (signal) => job(api, { signal })));
  } catch (error) {
    throw await named(error);
  }
}
