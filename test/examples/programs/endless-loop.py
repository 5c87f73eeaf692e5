# takes: stdin
# timeout: 5
# tables: 3
# Binary search with the classic mistake: it never ends.
import json
import sys

rows = json.load(sys.stdin)
values = sorted(v for row in rows for v in row.values() if isinstance(v, (int, float)))
target = values[-1] + 1
low, high = 0, len(values) - 1
while low <= high:
    middle = (low + high) // 2
    if values[middle] < target:
        low = middle
    else:
        high = middle
print(low)
