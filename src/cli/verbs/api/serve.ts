/** `warren serve`: this machine's home for others, over HTTP. */
import { InvalidArgumentError } from "commander";
import { LIMITS } from "../../../limits.ts";
import type { RunningServer, ServeOptions, ServerNews } from "../../../server.ts";
import { given, integer } from "../../arguments.ts";
import type { Io } from "../../ground/io.ts";
import type { Define, Verb } from "../../verb.ts";

interface Options {
  readonly host?: string;
  readonly port?: number;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly insecureHttp?: boolean;
  readonly allowEmulation?: boolean;
  readonly prepared?: number;
  readonly ready?: number;
  readonly database?: string;
  readonly publicUrl?: string;
  readonly previewSuffix?: string;
  readonly json?: boolean;
}

const ABOUT = `Serve this machine's home over HTTP: sandboxes, files, ports, accounts and keys, as
/docs of the server describes them. Clients such as @pandastack/sdk work by its URL
and a key alone.

It listens at once, and is ready (/healthz answers 200) when its templates are
baked. Ctrl-C or SIGTERM ends it in good order: requests under way are answered,
what waits is written down, sandboxes live on. A second one ends it at once.`;

const EXAMPLES = `
Examples:
  $ warren serve
  $ warren serve --port 8080 --ready 4
  $ DATABASE_URL=postgres://... warren serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem
  $ warren serve --host 0.0.0.0 --insecure-http      in a network of your own

\`warren environment\` lists the variables that it reads.

A first start prints an administrator's key, once. \`warren login --host URL\` keeps
it; \`warren accounts create\` and \`warren accounts key\` make those of others.`;

function path(text: string): string {
  if (text !== "") return text;
  throw new InvalidArgumentError("allowed is the path of a file.");
}

export const defineServe: Define = (program, verb) => {
  program
    .command("serve")
    .summary("serve this machine's home to others, over HTTP")
    .description(ABOUT)
    .option("--host <address>", "address of this machine to listen on; default 127.0.0.1, or WARREN_LISTEN")
    .option("-p, --port <port>", "port to listen on; 0 is any free one; default 7480", integer(0, 65_535))
    .option("--tls-cert <file>", "TLS certificate chain, PEM", path)
    .option("--tls-key <file>", "its private key, PEM", path)
    .option("--insecure-http", "let other machines reach it without TLS: whoever is on the way has the keys")
    .option("--allow-emulation", "let several accounts share this host without KVM")
    .option("--prepared <n>", "VMM processes kept for each template in use", integer(0, LIMITS.readyMax))
    .option("--ready <n>", "restored sandboxes kept waiting for each template in use", integer(0, LIMITS.readyMax))
    .option("--database <url>", "PostgreSQL for its state; others see command lines, so DATABASE_URL is better")
    .option("--public-url <url>", "where clients reach it; default as each request was addressed")
    .option("--preview-suffix <domain>", "PORT-ID.domain leads to ports of sandboxes")
    .option("--json", "tell what it does as JSON lines on stdout")
    .addHelpText("after", EXAMPLES)
    .action(async (options: Options) => {
      verb.code = await serve(verb, options);
    });
};

async function serve({ io }: Verb, options: Options): Promise<number> {
  const server = await import("../../../server.ts");
  const asked = await optionsOf(options);
  const onNews = options.json === true ? jsonNews(io) : plainNews(io);
  return untilTold(io, () => server.serve({ ...asked, onNews }));
}

/** Serves until Ctrl-C or SIGTERM, then ends in good order; the result is the exit code. */
export async function untilTold(io: Io, start: () => Promise<RunningServer>): Promise<number> {
  const { EXIT } = await import("../../exits.ts");
  const { note } = await import("../../ground/io.ts");
  const { interruptible } = await import("../../verb.ts");
  return await interruptible(io, async (signal) => {
    const running = await start();
    if (!signal.aborted) await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    const left = await running.close();
    if (left === 0) return EXIT.ok;
    await note(io, `warren: ${left} rows could not be written: the database did not take them in time`);
    return EXIT.verdict;
  });
}

async function optionsOf(options: Options): Promise<ServeOptions> {
  const { resolve } = await import("node:path");
  const { readServing } = await import("../../../config.ts");
  const { listenOf } = await import("../../../server/listen.ts");
  const { tlsCert, tlsKey, database, publicUrl, previewSuffix, insecureHttp, allowEmulation } = options;
  const own = listenOf(readServing().listen);
  const name = options.host ?? own.hostname;
  const absolute = (file: string | undefined) => (file === undefined ? undefined : resolve(file));
  const listen = `${name.includes(":") ? `[${name.replace(/^\[|\]$/g, "")}]` : name}:${options.port ?? own.port}`;
  const tls = given({ tlsCert: absolute(tlsCert), tlsKey: absolute(tlsKey) });
  const serving = { listen, ...tls, ...given({ databaseUrl: database, publicUrl, previewSuffix }) };
  return {
    serving,
    ...given({ insecureHttp, allowEmulation, prepared: options.prepared, ready: options.ready }),
  };
}

function jsonNews(io: Io): (news: ServerNews) => void {
  return ({ kind, ...facts }) => void io.out.write(`${JSON.stringify({ event: kind, ...facts })}\n`);
}

/** For people: a key in a frame that is not overlooked, and of bakes what is new. */
function plainNews(io: Io): (news: ServerNews) => void {
  const say = (text: string): void => void io.err.write(`${text}\n`);
  return (news) => {
    if (news.kind === "listening") say(`warren: listening on ${news.url}; ${news.url}/docs describes it`);
    else if (news.kind === "admin-key") say(framed(news.key));
    else if (news.kind === "note") say(`warren: ${news.says}`);
    else if (news.kind === "baking") {
      say(`warren: baking ${news.template}, step ${news.step} of ${news.steps}: ${news.says}`);
    } else if (news.kind === "ready") say("warren: ready");
    else say("warren: stopping; requests under way are answered. Once more ends it at once");
  };
}

function framed(key: string): string {
  const lines = ["The administrator's key, told this once:", "", key, "", "Keep it: `warren login --host URL` does."];
  const width = Math.max(...lines.map((line) => line.length));
  const rule = `+-${"-".repeat(width)}-+`;
  return [rule, ...lines.map((line) => `| ${line.padEnd(width)} |`), rule].join("\n");
}
