/** `warren keys` and `warren me`: an account's own keys on a server, and what it may have. */
import { InvalidArgumentError } from "commander";
import { SCOPES, type Scope } from "../../../contract/route.ts";
import type { NewToken, TokenInfo } from "../../../contract/routes/api/accounts.ts";
import { given } from "../../arguments.ts";
import type { Define, Verb } from "../../verb.ts";

export interface NewKeyFlags {
  readonly label?: string;
  readonly scope?: readonly Scope[];
  readonly expires?: number;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren keys ls
  $ warren keys create --label ci --scope sandbox:read --scope sandbox:write --expires 30
  $ warren keys revoke wrn_1a2b3c4d`;

function scope(text: string, before: readonly Scope[] = []): Scope[] {
  const found = SCOPES.find((one) => one === text);
  if (found === undefined) throw new InvalidArgumentError(`allowed are ${SCOPES.join(", ")}.`);
  return [...before, found];
}

/** Adds the options of a new key. */
export function newKeyOptions(command: ReturnType<Parameters<Define>[0]["command"]>): typeof command {
  return command
    .option("--label <text>", "what it is for")
    .option(
      "--scope <scope>",
      "what it may do; may be repeated. Default: what the key that asks may, without admin",
      scope,
    )
    .option("--expires <days>", "it ends after so many days", days)
    .option("--json", "as JSON");
}

function days(text: string): number {
  if (/^[1-9]\d{0,3}$/.test(text) && Number(text) <= 3650) return Number(text);
  throw new InvalidArgumentError("allowed is a number of days from 1 to 3650.");
}

/** As the contract wants it. */
export function newKeyInput({ label, scope: scopes, expires: expiresInDays }: NewKeyFlags): {
  label?: string;
  scopes?: Scope[];
  expiresInDays?: number;
} {
  return given({ label, scopes: scopes === undefined ? undefined : [...scopes], expiresInDays });
}

export async function tellNewKey(io: Verb["io"], made: NewToken, json: boolean): Promise<void> {
  const { note, print, printJson } = await import("../../ground/io.ts");
  if (json) return printJson(io, made);
  await print(io, made.token);
  await note(io, `warren: this is the only time that it is shown; \`warren keys revoke ${made.prefix}\` ends it`);
}

export const defineKeys: Define = (program, verb) => {
  const keys = program
    .command("keys")
    .summary("list, make and revoke the account's keys on a server")
    .description("The API keys of the account on a server.")
    .addHelpText("after", EXAMPLES);
  keys
    .command("ls")
    .description("List keys that are not revoked, newest first.")
    .option("--json", "all that is known of them")
    .action((options: { json?: boolean }) => list(verb, options.json === true));
  newKeyOptions(keys.command("create").description("Make a key and print it, this once.")).action(
    (options: NewKeyFlags) => create(verb, options),
  );
  keys
    .command("revoke")
    .description("End keys, at once.")
    .argument("<prefixes...>", "as `warren keys ls` shows them")
    .action((prefixes: string[]) => revoke(verb, prefixes));
  program
    .command("me")
    .summary("whose key this is, and what the account may and does use")
    .description("Show whose key this is on the server, and what the account may and does use.")
    .option("--json", "as JSON")
    .addHelpText("after", "\nExamples:\n  $ warren me\n  $ warren me --json")
    .action((options: { json?: boolean }) => me(verb, options.json === true));
};

async function list(verb: Verb, isJson: boolean): Promise<void> {
  const { io } = verb;
  const { table } = await import("../../text/format.ts");
  const { printJson } = await import("../../ground/io.ts");
  const { withServer } = await import("../../verb.ts");
  const { items } = await withServer(verb, (api) => api.tokens({}));
  if (isJson) return printJson(io, items);
  const { escapeLine } = await import("../../../base/escape.ts");
  const row = ({ prefix, label, scopes, createdAt, lastUsedAt, expiresAt }: TokenInfo) =>
    [prefix, createdAt, lastUsedAt ?? "never", expiresAt ?? "never", scopes.join(" "), label].map(escapeLine);
  await io.out.write(table([["KEY", "CREATED", "LAST USED", "ENDS", "SCOPES", "LABEL"], ...items.map(row)]));
}

async function create(verb: Verb, options: NewKeyFlags): Promise<void> {
  const { withServer } = await import("../../verb.ts");
  const made = await withServer(verb, (api) => api.createToken(newKeyInput(options)));
  await tellNewKey(verb.io, made, options.json === true);
}

async function revoke(verb: Verb, prefixes: readonly string[]): Promise<void> {
  const { io } = verb;
  const { escapeLine } = await import("../../../base/escape.ts");
  const { print } = await import("../../ground/io.ts");
  const { withServer } = await import("../../verb.ts");
  await withServer(verb, async (api) => {
    for (const prefix of prefixes) {
      await api.revokeToken({ prefix });
      await print(io, escapeLine(prefix));
    }
  });
}

async function me(verb: Verb, isJson: boolean): Promise<void> {
  const { io } = verb;
  const { table } = await import("../../text/format.ts");
  const { printJson } = await import("../../ground/io.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const { withServer } = await import("../../verb.ts");
  const { account, key, usage } = await withServer(verb, (api) => api.me({}));
  if (isJson) return printJson(io, { account, key, usage });
  const of = (used: number, most: number | null) => (most === null ? String(used) : `${used} of ${most}`);
  const rows = [
    ["account", `${account.id} (${account.name})${account.suspended ? ", suspended" : ""}`],
    ["key", `${key.prefix} (${key.label})`],
    ["scopes", key.scopes.join(" ")],
    ["sandboxes", of(usage.sandboxes, account.quota.sandboxes)],
    ["vCPUs", of(usage.vcpus, account.quota.vcpus)],
    ["memory", `${of(usage.memoryMb, account.quota.memoryMb)} MiB`],
    ...(account.creditUsd === null ? [] : [["credit", `$${account.creditUsd}`]]),
  ];
  await io.out.write(table(rows.map((row) => row.map(escapeLine))));
}
