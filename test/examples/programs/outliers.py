# takes: csv
# Values outside 1.5 interquartile ranges.
import numpy as np
import pandas as pd

df = pd.read_csv("data.csv")
for column in df.select_dtypes("number"):
    values = df[column].dropna().to_numpy()
    q1, q3 = np.percentile(values, [25, 75])
    reach = 1.5 * (q3 - q1)
    outside = values[(values < q1 - reach) | (values > q3 + reach)]
    print(f"{column}: {len(outside)} of {len(values)} outside {q1 - reach:.2f}..{q3 + reach:.2f}")
