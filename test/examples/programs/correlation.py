# takes: csv
# The most correlated pair of numeric columns.
import itertools

import numpy as np
import pandas as pd

df = pd.read_csv("data.csv").select_dtypes("number").dropna()
pairs = []
for a, b in itertools.combinations(df.columns, 2):
    if df[a].std() > 0 and df[b].std() > 0:
        pairs.append((abs(np.corrcoef(df[a], df[b])[0, 1]), a, b))
if not pairs:
    print("fewer than two numeric columns vary")
else:
    r, a, b = max(pairs)
    print(f"|r| = {r:.4f} between {a} and {b}, of {len(pairs)} pairs")
