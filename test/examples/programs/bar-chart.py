# takes: csv
# leaves: chart.png
# A bar chart of the ten largest values.
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

df = pd.read_csv("data.csv")
numbers = df.select_dtypes("number").columns[0]
texts = df.select_dtypes("object").columns
top = df.nlargest(10, numbers)
labels = top[texts[0]].astype(str) if len(texts) else top.index.astype(str)
fig, ax = plt.subplots(figsize=(4, 3), dpi=60)
ax.bar(range(len(top)), top[numbers])
ax.set_xticks(range(len(top)), labels, rotation=60, fontsize=6)
ax.set_title(f"Top 10 by {numbers}")
fig.savefig("chart.png")
print("chart ready")
