/** `warren create`: a sandbox that outlives the command. */

import type { VolumeMount } from "../../contract/routes/volumes.ts";
import { LIMITS } from "../../limits.ts";
import { given, integer, mib, pairs, seconds, volumeMounts } from "../arguments.ts";
import { type EgressFlags, egressOf, egressOptions, type SecretFlag, secretOption, secretsOf } from "../egress.ts";
import type { Define, Verb } from "../verb.ts";

interface Options extends EgressFlags {
  readonly secret?: readonly SecretFlag[];
  readonly template: string;
  readonly snapshot?: string;
  readonly cpu?: number;
  readonly memory?: number;
  readonly ttl: number;
  readonly env?: Record<string, string>;
  readonly metadata?: Record<string, string>;
  readonly volume?: VolumeMount[];
  readonly json?: boolean;
}

const HOUR_SECONDS = 3600;

const EXAMPLES = `
Examples:
  $ warren create
  $ id=$(warren create --template code-interpreter --memory 1g --ttl 2h)
  $ warren create --metadata owner=me --json
  $ warren create --egress none
  $ warren create --allow pypi.org --allow '*.pythonhosted.org:443'
  $ warren create --volume data:/workspace --volume models:/models:ro`;

export const defineCreate: Define = (program, verb) => {
  const command = program
    .command("create")
    .summary("make a sandbox that stays")
    .description("Make a sandbox that lives on until `warren rm` or the end of its time, and print its id.")
    .option("-t, --template <name>", "what it is restored from", "base")
    .option("-s, --snapshot <id>", "or the snapshot, by id or name, with its size and template")
    .option("--cpu <n>", "vCPUs", integer(1, LIMITS.cpuMax))
    .option("--memory <mib>", "guest memory, for instance 512 or 2g", mib)
    .option("--ttl <time>", "it destroys itself after so long, for instance 90s or 2h", seconds, HOUR_SECONDS)
    .option("-e, --env <name=value>", "environment of every command in it; may be repeated", pairs)
    .option("--metadata <name=value>", "something to find it by; may be repeated", pairs)
    .option("--volume <name[:/path][:ro]>", "attach a volume, to read only with :ro; may be repeated", volumeMounts)
    .option("--json", "print all that is known of it");
  secretOption(egressOptions(command, "default open"))
    .addHelpText("after", EXAMPLES)
    .action(async (options: Options) => {
      await create(verb, options);
    });
};

async function create(verb: Verb, options: Options): Promise<void> {
  const { io } = verb;
  const { withTemplate } = await import("../bake-first.ts");
  const { note, print, printJson } = await import("../ground/io.ts");
  const { interruptible, withHost } = await import("../verb.ts");
  const { template, snapshot, ttl: ttlSeconds, cpu, memory: memoryMb, env, metadata, volume: volumes } = options;
  const egress = egressOf(options, "open") ?? undefined;
  const secrets = options.secret === undefined ? undefined : await secretsOf(options.secret);
  await withHost(verb, false, async (host) => {
    const info = await interruptible(io, async (signal) => {
      if (snapshot === undefined) await withTemplate(io, host, template, given({ cpu, memoryMb }), signal);
      const input = {
        template,
        ttlSeconds,
        detached: true,
        ...given({ snapshot, cpu, memoryMb, env, metadata, volumes, egress, secrets }),
      };
      return host.create(input, { signal });
    });
    if (options.json === true) return printJson(io, info);
    await print(io, info.id);
    for (const says of info.notes) await note(io, `warren: ${says}`);
    await note(io, `warren: it ends itself at ${info.expiresAt ?? "no time"}; sooner with \`warren rm ${info.id}\``);
  });
}
