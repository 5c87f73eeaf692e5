/** `warren billing sinks`: where usage is sent as events, for whoever runs the server. */
import { Option } from "commander";
import type { SinkInfo } from "../../../contract/routes/api/billing.ts";
import { pairs } from "../../arguments.ts";
import type { Define, Verb } from "../../verb.ts";

interface AddOptions {
  readonly kind: SinkInfo["kind"];
  readonly account?: string;
  readonly tokenFile?: string;
  readonly customer?: Readonly<Record<string, string>>;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren billing sinks ls
  $ warren billing sinks add meter https://openmeter.example/api --kind openmeter --token-file token
  $ warren billing sinks add cards https://stripe.example --kind stripe --token-file key --customer acme=cus_123
  $ warren billing sinks rm meter

The token is read from a file (- is stdin), as others on this machine see command lines.`;

export const defineSinks: Define = (billing, verb) => {
  const sinks = billing
    .command("sinks")
    .summary("where usage is sent; for administrators")
    .description("Receivers that get usage as events: a webhook, OpenMeter, Lago or Stripe.")
    .addHelpText("after", EXAMPLES);
  sinks
    .command("ls")
    .description("List them, and what waits for each.")
    .option("--json", "as JSON")
    .action((options: { json?: boolean }) => list(verb, options.json === true));
  sinks
    .command("add")
    .description("Send usage from now on to a receiver.")
    .argument("<id>", "a name for it")
    .argument("<url>", "its address")
    .addOption(
      new Option("--kind <kind>", "what it is")
        .choices(["webhook", "openmeter", "lago", "stripe"])
        .makeOptionMandatory(),
    )
    .option("--account <id>", "only what this account uses; default all")
    .option("--token-file <file>", "has its token, or the secret that signs")
    .option("--customer <account=name>", "how it knows an account; may be repeated", pairs)
    .option("--json", "as JSON")
    .action((id: string, url: string, options: AddOptions) => add(verb, id, url, options));
  sinks
    .command("rm")
    .description("Stop sending; what waits is not sent.")
    .argument("<ids...>")
    .action((ids: string[]) => remove(verb, ids));
};

async function tell(verb: Verb, all: readonly SinkInfo[]): Promise<void> {
  const { table } = await import("../../text/format.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const rows = all.map(({ id, kind, account, url, waiting, lastError }) => [
    ...[id, kind, account ?? "-", String(waiting), lastError ?? "-", url],
  ]);
  const head = ["ID", "KIND", "ACCOUNT", "WAITING", "LAST ERROR", "URL"];
  await verb.io.out.write(table([head, ...rows.map((row) => row.map(escapeLine))]));
}

async function list(verb: Verb, isJson: boolean): Promise<void> {
  const { printJson } = await import("../../ground/io.ts");
  const { asking } = await import("./ask.ts");
  const { items } = await asking(verb, (api, options) => api.sinks({}, options));
  return isJson ? printJson(verb.io, items) : tell(verb, items);
}

/** Without the newline at its end. */
async function tokenOf(verb: Verb, file: string): Promise<string> {
  const { readFile } = await import("node:fs/promises");
  const { WarrenError } = await import("../../../errors.ts");
  try {
    const bytes = file === "-" ? await Array.fromAsync(verb.io.input.bytes()) : [await readFile(file)];
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(bytes)).trim();
  } catch (cause) {
    const says = cause instanceof Error ? cause.message : String(cause);
    throw new WarrenError("invalid_request", `--token-file: ${file} cannot be read: ${says}`, { cause });
  }
}

async function add(verb: Verb, id: string, url: string, options: AddOptions): Promise<void> {
  const { given } = await import("../../arguments.ts");
  const { printJson } = await import("../../ground/io.ts");
  const { asking } = await import("./ask.ts");
  const { kind, account, tokenFile, customer, json } = options;
  const token = tokenFile === undefined ? undefined : await tokenOf(verb, tokenFile);
  const customers = customer === undefined ? undefined : { ...customer };
  const input = { id, kind, url, ...given({ account, token, customers }) };
  const made = await asking(verb, (api, call) => api.createSink(input, call));
  return json === true ? printJson(verb.io, made) : tell(verb, [made]);
}

async function remove(verb: Verb, ids: readonly string[]): Promise<void> {
  const { print } = await import("../../ground/io.ts");
  const { asking } = await import("./ask.ts");
  await asking(verb, async (api, options) => {
    for (const id of ids) {
      await api.removeSink({ id }, options);
      await print(verb.io, id);
    }
  });
}
