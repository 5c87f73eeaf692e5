/**
 * Several ways out of one state: a session holds a data frame, a fork for each way of filling its gaps goes on from there, and
 * the best is kept. By hand, and by `explore`. What the winner has made lies on a volume, for whoever comes next.
 * `bun test/examples/patterns/fork-on-explore.ts`
 */
import { Sandbox, Volume } from "warren";

/** Ten hours of a temperature that rises by two degrees an hour; five measurements are missing. */
const CSV = "hour,celsius\n0,10\n1,12\n2,\n3,\n4,18\n5,20\n6,\n7,24\n8,\n9,\n10,30\n";
const TRUE_MEAN = 20;

const APPROACHES = ["fillna(0)", "dropna()", "interpolate()"];

export interface Explored {
  /** What the parent has shown of its data. */
  readonly head: string;
  /** Distance from the true mean, by approach. */
  readonly byHand: Readonly<Record<string, number>>;
  readonly explored: Readonly<Record<string, number>>;
  readonly winner: string;
  /** Sandboxes that were ended as losers, out of how many. */
  readonly reaped: number;
  /** The parent's own variables, afterwards. */
  readonly parentHas: string;
  /** What the next sandbox finds in the workspace. */
  readonly workspace: string;
}

/** Runs in the context that the fork has from its parent: `df` is there, and what is assigned is this fork's alone. */
async function tryOne(fork: Sandbox, context: number, approach: string): Promise<number> {
  const cell = `best = df.${approach}; float(abs(best["celsius"].mean() - ${TRUE_MEAN}))`;
  const { text, error } = await fork.contexts.get(context).run(cell, { timeoutSeconds: 30 });
  if (error !== null || text === null) throw new Error(error?.traceback.join("\n") ?? "no result");
  return Number(text);
}

async function byHand(parent: Sandbox, context: number): Promise<Record<string, number>> {
  const off: Record<string, number> = {};
  const branches: Sandbox[] = [];
  try {
    for (const approach of APPROACHES) {
      const child = await parent.fork();
      branches.push(child);
      off[approach] = await tryOne(child, context, approach);
    }
    return off;
  } finally {
    await Promise.all(branches.map((branch) => branch.close()));
  }
}

export async function run(): Promise<Explored> {
  await using parent = await Sandbox.create({ template: "code-interpreter", ttlSeconds: 300 });
  await parent.files.write("/data.csv", CSV);
  const ctx = await parent.contexts.create();
  const { stdout: head } = await ctx.run("import pandas; df = pandas.read_csv('/data.csv'); print(df.head(3))");

  const off = await byHand(parent, ctx.context);

  const candidates = APPROACHES.map((label) => ({
    label,
    run: (fork: Sandbox) => tryOne(fork, ctx.context, label),
  }));
  const found = await parent.explore(candidates, { score: (_, { value }) => Number(value), select: "min" });
  const { winner } = found;
  if (winner === null) throw new Error(found.outcomes.map(({ error }) => error).join("\n"));

  const workspace = await Volume.getOrCreate({ name: "explore-workspace", sizeGb: 0.125 });
  try {
    await winner.attachVolume(workspace, { mount: "/workspace" });
    await winner.contexts.get(ctx.context).run("best.to_csv('/workspace/best.csv', index=False)");
    await winner.close(); // all that it wrote to the volume is on disk from here on

    await using next = await Sandbox.create({ template: "code-interpreter", volumes: [workspace.mount("/workspace")] });
    return {
      head,
      byHand: off,
      explored: Object.fromEntries(found.outcomes.map(({ label, score }) => [label, score])),
      winner: found.winnerOutcome?.label ?? "",
      reaped: found.reaped.length,
      parentHas: (await ctx.run("sorted({'df', 'best'} & set(globals()))")).text ?? "",
      workspace: await next.files.readText("/workspace/best.csv"),
    };
  } finally {
    await winner.close();
    await workspace.remove();
  }
}

if (import.meta.main) console.log(await run());
