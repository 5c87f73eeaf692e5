# takes: csv
# leaves: scatter.png
# The first two numeric columns against each other.
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

df = pd.read_csv("data.csv").select_dtypes("number")
if len(df.columns) < 2:
    df.insert(0, "row", range(len(df)))
x, y = df.columns[:2]
fig, ax = plt.subplots(figsize=(4, 3), dpi=60)
ax.scatter(df[x], df[y], s=6, alpha=0.6)
ax.set_xlabel(x)
ax.set_ylabel(y)
fig.savefig("scatter.png")
print(f"{x} against {y}: {len(df)} points")
