# takes: stdin
# A histogram drawn with characters.
import json
import sys

rows = json.load(sys.stdin)
field = next(k for k, v in rows[0].items() if isinstance(v, (int, float)))
values = [row[field] for row in rows if isinstance(row[field], (int, float))]
low, high = min(values), max(values)
width = (high - low) / 10 or 1
bins = [0] * 10
for value in values:
    bins[min(9, int((value - low) / width))] += 1
print(field)
for i, count in enumerate(bins):
    print(f"{low + i * width:12.2f} | {'#' * round(40 * count / max(bins))} {count}")
