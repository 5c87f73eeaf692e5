# takes: csv
# A bootstrap interval for the mean of the first numeric column.
import numpy as np
import pandas as pd

values = pd.read_csv("data.csv").select_dtypes("number").iloc[:, 0].dropna().to_numpy()
rng = np.random.default_rng(7)
means = rng.choice(values, size=(500, len(values))).mean(axis=1)
low, high = np.percentile(means, [2.5, 97.5])
print(f"mean {values.mean():.3f}, 95% interval {low:.3f} to {high:.3f}")
