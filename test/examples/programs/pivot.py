# takes: csv
# A pivot table of the first two text columns. Assumes that there are two.
import pandas as pd

df = pd.read_csv("data.csv")
texts = df.select_dtypes("object").columns
numbers = df.select_dtypes("number").columns
table = df.pivot_table(index=texts[0], columns=texts[1], values=numbers[0], aggfunc="mean")
print(table.iloc[:8, :6].round(2).to_string())
