/** Runs every case that this server can do and prints a line of JSON for each: the same under Bun and under Node. */
import { Client } from "@pandastack/sdk";
import { CASES, type Ground } from "./cases.ts";

export interface Outcome {
  readonly name: string;
  readonly error: string | null;
}

/** `has`: what of the server is there. */
export async function runCases(
  client: Client,
  has: ReadonlySet<string>,
  python: string,
  tell: (outcome: Outcome) => void,
): Promise<void> {
  const shared = await client.sandboxes.create({ ttlSeconds: 1800 });
  const ground: Ground = { client, shared, python };
  try {
    for (const { name, needs, run } of CASES) {
      if (needs !== undefined && !has.has(needs)) continue;
      const error = await run(ground).then(
        () => null,
        (cause: unknown) => (cause instanceof Error ? `${cause.stack}` : String(cause)),
      );
      tell({ name, error });
    }
  } finally {
    await shared.kill();
  }
}

if (process.argv[2] === "run") {
  const [, , , has = "", python = "code-interpreter"] = process.argv;
  await runCases(new Client(), new Set(has.split(",")), python, (outcome) => {
    process.stdout.write(`${JSON.stringify(outcome)}\n`);
  });
}
