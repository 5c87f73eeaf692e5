# takes: stdin
# A reproducible sample of rows.
import json
import random
import sys

rows = json.load(sys.stdin)
random.seed(42)
for row in random.sample(rows, min(4, len(rows))):
    print(json.dumps(row, ensure_ascii=False))
