/**
 * Files in, artifacts out, through `batch`: a CSV becomes a summary and a chart. Writes chart.png into the current folder.
 * `bun test/examples/patterns/artifacts.ts`
 */
import { type Artifact, batch } from "warren";

const CSV = "category,revenue\nbooks,120\ngames,80\nbooks,45\nmusic,30\ngames,10\n";

const CODE = `
import pandas as pd
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

df = pd.read_csv("/work/data.csv")
out = df.groupby("category")["revenue"].sum().reset_index()
out.to_csv("/work/summary.csv", index=False)
plt.bar(out["category"], out["revenue"])
plt.savefig("/work/chart.png", dpi=100)
print("summary ready")
`;

export async function run(): Promise<readonly Artifact[]> {
  const item = {
    id: "revenue",
    code: CODE,
    files: { "/work/data.csv": CSV },
    output_paths: ["/work/summary.csv", "/work/chart.png"],
    timeout_seconds: 60,
  };
  for await (const row of batch([item], { template: "code-interpreter" })) {
    if (!row.ok) throw new Error(row.error ?? row.stderr);
    return row.artifacts;
  }
  return [];
}

if (import.meta.main) {
  for (const { path, bytes } of await run()) {
    if (path.endsWith(".png") && bytes !== undefined) await Bun.write("chart.png", bytes);
    console.log(path, bytes?.length);
  }
}
