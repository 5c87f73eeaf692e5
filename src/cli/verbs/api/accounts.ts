/** `warren accounts`: who may use a server, and how much of it; for its administrators. */
import { InvalidArgumentError, Option } from "commander";
import type { AccountInfo, Quota } from "../../../contract/routes/api/accounts.ts";
import { given } from "../../arguments.ts";
import type { Define, Verb } from "../../verb.ts";
import { type NewKeyFlags, newKeyInput, newKeyOptions, tellNewKey } from "./keys.ts";

type BillingFields = Partial<Pick<AccountInfo, "timeZone" | "onEmpty" | "billTo">>;

/** Options cannot be null. */
type Bound = number | "none";

interface Options {
  readonly name?: string;
  readonly sandboxes?: Bound;
  readonly vcpus?: Bound;
  readonly memory?: Bound;
  readonly storage?: Bound;
  readonly rate?: Bound;
  readonly credit?: string;
  readonly addCredit?: string;
  readonly timeZone?: string;
  readonly onEmpty?: AccountInfo["onEmpty"];
  readonly billTo?: string;
  readonly taxId?: string;
  readonly suspend?: boolean;
  readonly resume?: boolean;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren accounts create acme --name 'Acme Ltd' --sandboxes 20 --vcpus 40 --credit 100
  $ warren accounts key acme --label first
  $ warren accounts update acme --credit none --sandboxes 50
  $ warren accounts update acme --add-credit 25
  $ warren accounts update acme --time-zone Asia/Kolkata --on-empty hibernate
  $ warren accounts update acme --bill-to 'Acme Ltd; 1 Main Street; Springfield' --tax-id DE123456789
  $ warren accounts update acme --suspend
  $ warren accounts ls --json

Numbers that are \`none\` are without a bound.`;

function bound(text: string): Bound {
  if (text === "none") return text;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("allowed is a whole number, or none.");
}

function credit(text: string): string {
  if (text === "none" || /^\d{1,12}(\.\d{1,12})?$/.test(text)) return text;
  throw new InvalidArgumentError("allowed is an amount of US dollars such as 25 or 0.50, or none.");
}

function added(text: string): string {
  if (/^-?\d{1,12}(\.\d{1,12})?$/.test(text)) return text;
  throw new InvalidArgumentError("allowed is an amount of US dollars such as 25, 0.50 or -10.");
}

function boundOptions(command: ReturnType<Parameters<Define>[0]["command"]>): typeof command {
  return command
    .option("--sandboxes <n>", "how many it may have at one time", bound)
    .option("--vcpus <n>", "vCPUs of all of them", bound)
    .option("--memory <mib>", "MiB of memory of all of them", bound)
    .option("--storage <mib>", "MiB of volumes, snapshots and hibernated sandboxes", bound)
    .option("--rate <n>", "requests a second", bound)
    .option("--credit <usd>", "prepaid; at 0 nothing new is made", credit)
    .addOption(
      new Option("--on-empty <what>", "what happens to what runs when the credit is used up; default nothing").choices([
        "nothing",
        "hibernate",
      ]),
    )
    .option("--time-zone <name>", "in which days of its reports begin, as Europe/Berlin; default UTC")
    .option("--bill-to <lines>", "name and address on invoices, with ; between lines; none: its name")
    .option("--tax-id <id>", "on invoices, below the address; goes with --bill-to")
    .option("--json", "as JSON");
}

export const defineAccounts: Define = (program, verb) => {
  const accounts = program
    .command("accounts")
    .summary("who may use a server; for its administrators")
    .description("Accounts of a server, their quotas and keys. Needs an administrator's key.")
    .addHelpText("after", EXAMPLES);
  accounts
    .command("ls")
    .description("List accounts.")
    .option("--json", "all that is known of them")
    .action((options: { json?: boolean }) => list(verb, options.json === true));
  const create = accounts.command("create").description("Make an account.").argument("<id>", "such as acme");
  boundOptions(create.option("--name <text>", "for people; default its id")).action((id: string, options: Options) =>
    make(verb, id, options),
  );
  const change = accounts.command("update").description("Change an account.").argument("<id>");
  boundOptions(change.option("--name <text>", "for people"))
    .option("--add-credit <usd>", "to what is left of it now; --add-credit=-10 takes away", added)
    .option("--suspend", "refuse its keys; what runs goes on")
    .option("--resume", "take its keys again")
    .action((id: string, options: Options, command) => {
      if (options.suspend === true && options.resume === true) command.error("error: --suspend or --resume, not both");
      if (options.credit !== undefined && options.addCredit !== undefined)
        command.error("error: --credit or --add-credit, not both");
      return update(verb, id, options);
    });
  newKeyOptions(
    accounts.command("key").description("Make a key for an account and print it, this once.").argument("<id>"),
  ).action((id: string, options: NewKeyFlags) => key(verb, id, options));
};

function quotaOf({ sandboxes, vcpus, memory, storage, rate }: Options): { quota?: Partial<Quota> } {
  const asked = given({ sandboxes, vcpus, memoryMb: memory, storageMb: storage, requestsPerSecond: rate });
  const quota = Object.fromEntries(Object.entries(asked).map(([name, of]) => [name, of === "none" ? null : of]));
  return Object.keys(quota).length === 0 ? {} : { quota };
}

function creditOf({ credit: of }: Options): { creditUsd?: string | null } {
  return of === undefined ? {} : { creditUsd: of === "none" ? null : of };
}

/** @throws {WarrenError} `invalid_request` – no name, or a tax id without one */
async function billingOf({ timeZone, onEmpty, billTo: text, taxId }: Options): Promise<BillingFields> {
  const { WarrenError } = await import("../../../errors.ts");
  if (text === undefined && taxId !== undefined)
    throw new WarrenError("invalid_request", "--tax-id goes with --bill-to: both are written anew together");
  const lines = (text ?? "").split(";").map((line) => line.trim());
  const [name = "", ...address] = lines.filter((line) => line !== "");
  if (text !== undefined && name === "")
    throw new WarrenError("invalid_request", `--bill-to: got "${text}", allowed is a name and lines, or none`);
  const billTo = text === undefined ? undefined : text === "none" ? null : { name, address, taxId: taxId ?? null };
  return given({ timeZone, onEmpty, billTo });
}

function rowOf({ id, name, suspended, quota, creditUsd }: AccountInfo): string[] {
  const of = (value: number | null) => (value === null ? "-" : String(value));
  const money = creditUsd === null ? "-" : `$${creditUsd}`;
  return [
    id,
    suspended ? "suspended" : "active",
    of(quota.sandboxes),
    of(quota.vcpus),
    of(quota.memoryMb),
    money,
    name,
  ];
}

async function tell(io: Verb["io"], all: readonly AccountInfo[]): Promise<void> {
  const { table } = await import("../../text/format.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const head = ["ID", "STATE", "SANDBOXES", "VCPUS", "MEMORY MIB", "CREDIT", "NAME"];
  await io.out.write(table([head, ...all.map((one) => rowOf(one).map(escapeLine))]));
}

async function list(verb: Verb, isJson: boolean): Promise<void> {
  const { printJson } = await import("../../ground/io.ts");
  const { withServer } = await import("../../verb.ts");
  const { items } = await withServer(verb, (api) => api.accounts({}));
  return isJson ? printJson(verb.io, items) : tell(verb.io, items);
}

async function make(verb: Verb, id: string, options: Options): Promise<void> {
  const { print, printJson } = await import("../../ground/io.ts");
  const { withServer } = await import("../../verb.ts");
  const own = { ...quotaOf(options), ...creditOf(options), ...(await billingOf(options)) };
  const input = { id, name: options.name ?? id, ...own };
  const made = await withServer(verb, (api) => api.createAccount(input));
  return options.json === true ? printJson(verb.io, made) : print(verb.io, made.id);
}

async function update(verb: Verb, account: string, options: Options): Promise<void> {
  const { printJson } = await import("../../ground/io.ts");
  const { withServer } = await import("../../verb.ts");
  const suspended = options.suspend === true ? true : options.resume === true ? false : undefined;
  const own = { ...quotaOf(options), ...creditOf(options), ...(await billingOf(options)) };
  const change = { ...own, ...given({ name: options.name, suspended, addCreditUsd: options.addCredit }) };
  const now = await withServer(verb, (api) => api.updateAccount({ account, ...change }));
  return options.json === true ? printJson(verb.io, now) : tell(verb.io, [now]);
}

async function key(verb: Verb, account: string, options: NewKeyFlags): Promise<void> {
  const { withServer } = await import("../../verb.ts");
  const made = await withServer(verb, (api) => api.createAccountToken({ account, ...newKeyInput(options) }));
  await tellNewKey(verb.io, made, options.json === true);
}
