# takes: stdin
# A moving average over the last numeric field, without any library.
import json
import sys
from collections import deque

rows = json.load(sys.stdin)
field = [k for k, v in rows[0].items() if isinstance(v, (int, float))][-1]
window = deque(maxlen=5)
smooth = []
for row in rows:
    window.append(row[field] or 0)
    smooth.append(sum(window) / len(window))
print(field, [round(value, 2) for value in smooth[:12]], "...")
