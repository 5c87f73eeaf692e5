# takes: stdin
# Totals of the first numeric field per value of the first text field.
import json
import sys
from collections import defaultdict

rows = json.load(sys.stdin)
first = rows[0]
key = next((k for k, v in first.items() if isinstance(v, str)), None)
value = next(k for k, v in first.items() if isinstance(v, (int, float)))
totals = defaultdict(float)
for row in rows:
    totals[row.get(key, "all")] += row[value] or 0
for name, total in sorted(totals.items(), key=lambda pair: -pair[1])[:10]:
    print(f"{name}: {total:.2f}")
