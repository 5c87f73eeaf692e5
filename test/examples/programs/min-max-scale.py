# takes: csv
# leaves: scaled.csv
# Scale numeric columns to 0..1 and write the table back.
import pandas as pd

df = pd.read_csv("data.csv")
for column in df.select_dtypes("number"):
    low, high = df[column].min(), df[column].max()
    df[column] = (df[column] - low) / (high - low) if high > low else 0.0
df.to_csv("scaled.csv", index=False, float_format="%.4f")
print(f"{len(df)} rows scaled")
