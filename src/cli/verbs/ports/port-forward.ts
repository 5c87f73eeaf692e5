/** `warren port-forward`: ports of this host that lead to those of a sandbox, until Ctrl-C. */
import { InvalidArgumentError } from "commander";
import type { SandboxHost } from "../../../contract/routes.ts";
import type { PortForward } from "../../../sandbox/ports.ts";
import type { Io } from "../../ground/io.ts";
import type { Define, Verb } from "../../verb.ts";

interface Options {
  readonly address: string;
  readonly json?: boolean;
}

interface Pair {
  readonly hostPort: number;
  readonly port: number;
}

const PORT_MAX = 65_535;
const LOOPBACK: ReadonlySet<string> = new Set(["127.0.0.1", "::1", "localhost"]);

const EXAMPLES = `
Examples:
  $ warren port-forward sb_abc 8000               127.0.0.1:8000 here, 8000 there
  $ warren port-forward sb_abc 9000:8000 5432     9000 here leads to 8000 there, and 5432 to 5432
  $ warren port-forward sb_abc 0:8000 --json      any free port here, told as JSON

Needs no network of the sandbox: services on its 127.0.0.1 are reached, with egress none too.
A sandbox that sleeps is woken by the first connection. Ctrl-C ends it, and all its connections.`;

/** `PORT` or `HOSTPORT:PORT`. */
function pair(text: string, before: readonly Pair[] = []): Pair[] {
  const [, host, guest] = /^(?:(\d{1,5}):)?(\d{1,5})$/.exec(text) ?? [];
  const port = Number(guest);
  const hostPort = host === undefined ? port : Number(host);
  if (!(port >= 1) || port > PORT_MAX || hostPort > PORT_MAX) {
    throw new InvalidArgumentError("allowed is PORT or HOSTPORT:PORT, each up to 65535; HOSTPORT 0 is any free one.");
  }
  return [...before, { hostPort, port }];
}

export const definePortForward: Define = (program, verb) => {
  program
    .command("port-forward")
    .summary("reach ports of a sandbox from this host")
    .description("Listen on this host and lead each connection to a port of a sandbox, until Ctrl-C.")
    .argument("<sandbox>", "its id")
    .argument("<ports...>", "PORT, or HOSTPORT:PORT", pair)
    .option("--address <address>", "address of this host to listen on", "127.0.0.1")
    .option("--json", "say where it listens as JSON")
    .addHelpText("after", EXAMPLES)
    .action(async (id: string, pairs: Pair[], options: Options) => {
      await portForward(verb, id, pairs, options);
    });
};

async function portForward(verb: Verb, id: string, pairs: readonly Pair[], options: Options): Promise<void> {
  const { io } = verb;
  const { interruptible, withHost } = await import("../../verb.ts");
  await withHost(verb, false, (host) => interruptible(io, (signal) => serve(io, host, id, pairs, options, signal)));
}

/** Until the signal, which is its ordinary end. @throws {WarrenError} `not_found`, `sandbox_lost` – there is no sandbox any more */
async function serve(
  io: Io,
  host: SandboxHost,
  id: string,
  pairs: readonly Pair[],
  { address, json }: Options,
  signal: AbortSignal,
): Promise<void> {
  const { Sandbox } = await import("../../../sandbox.ts");
  const { isWarrenError } = await import("../../../errors.ts");
  const { note } = await import("../../ground/io.ts");
  const { escapeText } = await import("../../../base/escape.ts");
  const sandbox = await Sandbox.connect(id, host);
  const over = Promise.withResolvers<void>();
  const ended = () => over.resolve();
  signal.addEventListener("abort", ended, { once: true });
  if (signal.aborted) ended();
  let said = "";
  const onError = (error: unknown): void => {
    const says = error instanceof Error ? error.message : String(error);
    if (isWarrenError(error, "not_found") || isWarrenError(error, "sandbox_lost")) over.reject(error);
    else if (says !== said) void note(io, `warren: ${escapeText(says)}`); // a client may try again and again
    said = says;
  };
  const forwards: PortForward[] = [];
  try {
    for (const { hostPort, port } of pairs)
      forwards.push(sandbox.forward(port, { hostname: address, hostPort, onError }));
    await tell(io, id, pairs, forwards, json === true);
    if (!LOOPBACK.has(address)) await note(io, `warren: whoever reaches ${address} of this host reaches the sandbox`);
    await over.promise;
  } finally {
    for (const forward of forwards) forward.close();
  }
}

async function tell(io: Io, id: string, pairs: readonly Pair[], forwards: readonly PortForward[], isJson: boolean) {
  const { print, printJson } = await import("../../ground/io.ts");
  const rows = forwards.map((forward, i) => ({
    hostname: forward.hostname,
    hostPort: forward.port,
    port: pairs[i]?.port ?? 0,
  }));
  if (isJson) return printJson(io, { sandbox: id, forwards: rows });
  for (const { hostname, hostPort, port } of rows) {
    const name = hostname.includes(":") ? `[${hostname}]` : hostname;
    await print(io, `${name}:${hostPort} leads to port ${port} of ${id}`);
  }
}
