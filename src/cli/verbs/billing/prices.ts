/** `warren billing prices`: what things cost this account; and price lists and plans, for administrators. */
import type { PriceInfo, PriceList, Pricing } from "../../../contract/routes/api/billing.ts";
import { given, pairs } from "../../arguments.ts";
import type { Define, Verb } from "../../verb.ts";
import { ACCOUNT } from "./ask.ts";

interface Json {
  readonly json?: boolean;
}
interface SetOptions extends Json {
  readonly currency?: string;
  readonly account?: string;
  readonly fromDay?: string;
}
interface PlanOptions extends Json {
  readonly list: string;
  readonly minimum?: string;
  readonly cap?: string;
  readonly include?: Readonly<Record<string, string>>;
}

const EXAMPLES = `
Examples:
  $ warren billing prices
  $ warren billing prices lists
  $ warren billing prices set default vcpu_ms=0.000012 memory_mib_ms=0.000005 --from-day 2027-01-01
  $ warren billing prices set acme-2027 acme.json --account acme --currency EUR
  $ warren billing prices plan team --list default --minimum 20 --include egress_bytes=107374182400
  $ warren billing prices subscribe acme team --from-day 2026-12-01

All but the first need an administrator's key. Days are of UTC; what a day that has begun costs is never changed.
Before it begins, whatever was set wrong is set right by setting it again for the same day.
A JSON file has an object of meters and prices, each price a text: {"vcpu_ms": "0.000012"}.`;

export const definePrices: Define = (billing, verb) => {
  const prices = billing
    .command("prices")
    .summary("what things cost; price lists and plans, for administrators")
    .description("Show what things cost this account, now and from announced days on, with the rules.")
    .option(...ACCOUNT)
    .option("--json", "as JSON, exact")
    .addHelpText("after", EXAMPLES)
    .action((options: Json & { account?: string }) => show(verb, options));
  prices
    .command("lists")
    .description("List all price lists, with all that was and will be. For administrators.")
    .option("--json", "as JSON, exact")
    .action((_: Json, of) => lists(verb, of.optsWithGlobals().json === true));
  prices
    .command("set")
    .description(
      "Make a price list, or set its prices, also anew, from a day on that has not begun. For administrators.",
    )
    .argument("<list>", "its name")
    .argument("<prices...>", "METER=PRICE of one of its units, or a JSON file")
    .option("--from-day <day>", "UTC; default tomorrow, of a new list always")
    .option("--currency <code>", "of a new list; default USD")
    .option("--account <id>", "of a new list: for this account alone")
    .option("--json", "as JSON, exact")
    .action((list: string, given: string[], _: SetOptions, of) => set(verb, list, given, of.optsWithGlobals()));
  prices
    .command("plan")
    .description(
      "Make a plan, or change one that no account has yet: a price list, included amounts, bounds of a month.",
    )
    .argument("<plan>", "its name")
    .requiredOption("--list <list>", "the price list that it goes by")
    .option("--minimum <amount>", "of each invoice, at least")
    .option("--cap <amount>", "of each invoice, at most")
    .option("--include <meter=n>", "free in each month, in the meter's own unit; may be repeated", pairs)
    .option("--json", "as JSON, exact")
    .action((id: string, _: PlanOptions, of) => plan(verb, id, of.optsWithGlobals()));
  prices
    .command("subscribe")
    .description("Give an account a plan, from a day on that has not begun. For administrators.")
    .argument("<account>")
    .argument("<plan>")
    .option("--from-day <day>", "UTC; default tomorrow, or at once where nothing was used yet")
    .action((account: string, id: string, { fromDay }: { fromDay?: string }) => subscribe(verb, account, id, fromDay));
};

function priceRow({ meter, price, unit, fromDay, describes }: PriceInfo, currency: string): string[] {
  return [meter, price, `${currency} per ${unit}`, fromDay, describes];
}

/** Words in lines of at most so many columns, the first of each after a dash. */
function wrapped(text: string, columns: number): string {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = `${lines.at(-1)} ${word}`;
    if (line.length + 1 <= columns || lines.at(-1) === "") lines[lines.length - 1] = line;
    else lines.push(` ${word}`);
  }
  return lines.map((line, at) => `${at === 0 ? "-" : " "}${line}\n`).join("");
}

function planRows({ plan: of, currency }: Pricing): string[][] {
  if (of === null) return [["plan", "none"]];
  const bounds = [
    ...(of.minimum === null ? [] : [`at least ${of.minimum} ${currency} a month`]),
    ...(of.cap === null ? [] : [`at most ${of.cap} ${currency} a month`]),
  ];
  const included = Object.entries(of.included).map(([meter, quantity]) => `${quantity} ${meter} free each month`);
  return [["plan", [of.id, ...bounds, ...included].join(", ")]];
}

async function show(verb: Verb, { account, json }: Json & { account?: string }): Promise<void> {
  const { io } = verb;
  const { printJson } = await import("../../ground/io.ts");
  const { table } = await import("../../text/format.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const { asking } = await import("./ask.ts");
  const pricing = await asking(verb, (api, options) => api.pricing(given({ account }), options));
  if (json === true) return printJson(io, pricing);
  const safe = (rows: readonly (readonly string[])[]) => table(rows.map((row) => row.map(escapeLine)));
  const head = ["METER", "PRICE", "FOR", "FROM", "WHAT"];
  const rows = pricing.prices.map((price) => priceRow(price, pricing.currency));
  const notes = pricing.notes.map((note) => wrapped(escapeLine(note), Math.min(io.out.columns, 110)));
  const list = safe([["list", `${pricing.list} (${pricing.currency})`], ...planRows(pricing)]);
  await io.out.write(`${list}\n${safe([head, ...rows])}\n${notes.join("")}`);
}

async function tellLists(verb: Verb, all: readonly PriceList[]): Promise<void> {
  const { table } = await import("../../text/format.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const rows = all.flatMap(({ id, account, currency, prices }) =>
    prices.map((price) => [id, account ?? "-", ...priceRow(price, currency).slice(0, 4)]),
  );
  const head = ["LIST", "ACCOUNT", "METER", "PRICE", "FOR", "FROM"];
  await verb.io.out.write(table([head, ...rows.map((row) => row.map(escapeLine))]));
}

async function lists(verb: Verb, isJson: boolean): Promise<void> {
  const { printJson } = await import("../../ground/io.ts");
  const { asking } = await import("./ask.ts");
  const { items } = await asking(verb, (api, options) => api.priceLists({}, options));
  return isJson ? printJson(verb.io, items) : tellLists(verb, items);
}

/** `METER=PRICE…`, or one file. @throws {WarrenError} `invalid_request` – neither */
async function pricesOf(given: readonly string[]): Promise<Record<string, string>> {
  const { WarrenError } = await import("../../../errors.ts");
  const [file] = given;
  if (given.length === 1 && file !== undefined && !file.includes("=")) return fromFile(file);
  const prices = new Map<string, string>();
  for (const text of given) {
    const at = text.indexOf("=");
    const meter = text.slice(0, at);
    if (at < 1) throw new WarrenError("invalid_request", `got ${text}, allowed is METER=PRICE, or one JSON file`);
    if (prices.has(meter)) throw new WarrenError("invalid_request", `${meter} is there twice`);
    prices.set(meter, text.slice(at + 1));
  }
  return Object.fromEntries(prices);
}

async function fromFile(path: string): Promise<Record<string, string>> {
  const { readFile } = await import("node:fs/promises");
  const { WarrenError } = await import("../../../errors.ts");
  const refused = (why: string, cause?: unknown) =>
    new WarrenError("invalid_request", `${path}: ${why}; allowed is {"METER": "PRICE", …}, or METER=PRICE…`, { cause });
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, "utf8"));
  } catch (cause) {
    throw refused(cause instanceof Error ? cause.message : String(cause), cause);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw refused("it is no JSON object");
  const [wrong] = Object.entries(value).find(([, price]) => typeof price !== "string") ?? [];
  if (wrong !== undefined) throw refused(`the price of ${wrong} is no text: a number of JSON may not be exact`);
  return value as Record<string, string>;
}

async function set(verb: Verb, id: string, texts: readonly string[], options: SetOptions): Promise<void> {
  const { printJson } = await import("../../ground/io.ts");
  const { asking } = await import("./ask.ts");
  const { currency, account, fromDay, json } = options;
  const prices = await pricesOf(texts);
  const input = { id, prices, ...given({ currency, account, fromDay }) };
  const list = await asking(verb, (api, call) => api.setPrices(input, call));
  return json === true ? printJson(verb.io, list) : tellLists(verb, [list]);
}

async function plan(verb: Verb, id: string, options: PlanOptions): Promise<void> {
  const { print, printJson } = await import("../../ground/io.ts");
  const { asking } = await import("./ask.ts");
  const { list, minimum, cap, include, json } = options;
  const input = { id, list, ...given({ minimum, cap, included: include === undefined ? undefined : { ...include } }) };
  const made = await asking(verb, (api, call) => api.setPlan(input, call));
  return json === true ? printJson(verb.io, made) : print(verb.io, made.id);
}

async function subscribe(verb: Verb, account: string, id: string, fromDay: string | undefined): Promise<void> {
  const { print } = await import("../../ground/io.ts");
  const { asking } = await import("./ask.ts");
  await asking(verb, (api, call) => api.subscribe({ account, plan: id, ...given({ fromDay }) }, call));
  await print(verb.io, `${account} ${id}`);
}
