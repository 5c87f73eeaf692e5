# takes: csv
# How much is missing, column by column.
import pandas as pd

df = pd.read_csv("data.csv")
missing = df.isna().sum()
print(f"{len(df)} rows, {len(df.columns)} columns")
for column, count in missing.items():
    print(f"{column:20} {count:5} missing ({100 * count / len(df):.1f}%)")
