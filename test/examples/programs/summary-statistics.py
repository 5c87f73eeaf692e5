# takes: csv
# Summary statistics of every numeric column.
import pandas as pd

df = pd.read_csv("data.csv")
numeric = df.select_dtypes("number")
for column in numeric.columns:
    values = numeric[column].dropna()
    print(f"{column}: n={len(values)} mean={values.mean():.3f} std={values.std():.3f} min={values.min()} max={values.max()}")
