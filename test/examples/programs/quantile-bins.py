# takes: csv
# Quartiles as categories.
import pandas as pd

df = pd.read_csv("data.csv")
column = df.select_dtypes("number").columns[0]
bins = pd.qcut(df[column].rank(method="first"), 4, labels=["low", "middle", "high", "top"])
print(df.groupby(bins, observed=True)[column].agg(["count", "min", "max"]).to_string())
