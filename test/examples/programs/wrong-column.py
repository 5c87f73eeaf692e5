# takes: csv
# Written for another table: the column is not there.
import pandas as pd

df = pd.read_csv("data.csv")
by_region = df.groupby("Region")["Revenue"].sum()
print(by_region.to_string())
