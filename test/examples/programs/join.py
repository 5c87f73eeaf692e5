# takes: csv+lookup
# leaves: joined.csv
# Joins the table with a second one by its first column.
import pandas as pd

left = pd.read_csv("data.csv")
right = pd.read_csv("lookup.csv")
joined = left.merge(right, on=left.columns[0], how="left")
joined.head(50).to_csv("joined.csv", index=False)
print(f"{len(left)} x {len(right)} -> {len(joined)} rows, {joined['rank'].notna().sum()} matched")
