/** `warren login` and `logout`: a server and a key for later commands. */
import type { Define, Verb } from "../../verb.ts";

const EXAMPLES = `
Examples:
  $ warren login --host https://warren.example
  $ warren login --host https://warren.example < key.txt
  $ warren ls                       asks that server from then on
  $ warren ls --host local          asks this machine's home all the same
  $ warren logout`;

export const defineLogin: Define = (program, verb) => {
  program
    .command("login")
    .summary("keep a server and a key for later commands")
    .description(
      "Keep a server and a key, readable by you alone, for later commands that name none. The key is read from stdin, unseen on a terminal, unless --key gives it. It is tried before it is kept.",
    )
    .addHelpText("after", EXAMPLES)
    .action((_, command) => {
      if (verb.server.host === undefined) command.error("error: name the server with --host URL");
      return login(verb);
    });
  program
    .command("logout")
    .summary("forget what login kept")
    .description("Forget the server and the key that `warren login` kept. The key itself stays valid.")
    .addHelpText("after", "\nExamples:\n  $ warren logout")
    .action(() => logout(verb));
};

async function login({ io, server }: Verb): Promise<void> {
  const { WarrenError } = await import("../../../errors.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const { print } = await import("../../ground/io.ts");
  const ground = await io.ground();
  const key = server.key ?? (await keyFromInput(io));
  const target = await ground.target({ ...server, key });
  if (target === null)
    throw new WarrenError("invalid_request", "--host local needs no login: `warren logout` forgets one");
  await using opened = await ground.connect(target);
  const me = await opened.api.me({});
  const file = await ground.keepLogin(target);
  const who = `account ${me.account.id}, key ${me.key.prefix}`;
  await print(io, `${escapeLine(`${target.url}: ${who}`)}; kept in ${escapeLine(file)}`);
}

async function keyFromInput(io: Verb["io"]): Promise<string> {
  const { WarrenError } = await import("../../../errors.ts");
  if (io.input.isTty) await io.err.write("Key: ");
  const unseen = io.input.isTty ? io.input.raw() : null;
  let text = "";
  try {
    for await (const chunk of io.input.bytes()) {
      text += new TextDecoder().decode(chunk);
      if (/[\r\n\u0003\u0004]/.test(text)) break;
    }
  } finally {
    unseen?.();
    if (io.input.isTty) await io.err.write("\n");
  }
  const [line = ""] = text.split(/[\r\n]/);
  if (line.includes("\u0003") || line.includes("\u0004")) throw new WarrenError("cancelled", "stopped");
  if (line.trim() === "") throw new WarrenError("invalid_request", "no key was given: on stdin, or with --key");
  return line.trim();
}

async function logout({ io }: Verb): Promise<void> {
  const { escapeLine } = await import("../../../base/escape.ts");
  const { print } = await import("../../ground/io.ts");
  const file = await (await io.ground()).keepLogin(null);
  await print(io, `no login is kept in ${escapeLine(file)} any more`);
}
