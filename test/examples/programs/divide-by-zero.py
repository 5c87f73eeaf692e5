# takes: json
# Growth from row to row; the author forgot that a value may be 0.
import json

with open("input.json") as f:
    rows = json.load(f)
field = [k for k, v in rows[0].items() if isinstance(v, (int, float))][-1]
growth = [(b[field] - a[field]) / a[field] for a, b in zip(rows, rows[1:])]
print(f"mean growth of {field}: {sum(growth) / len(growth):.3%}")
