# takes: stdin
# Counts rows per weekday, for tables that have a date.
import json
import sys
from collections import Counter
from datetime import datetime

FORMATS = ["%Y-%m-%d", "%b %d %Y", "%Y/%m/%d %H:%M:%S"]


def parse(text):
    for fmt in FORMATS:
        try:
            return datetime.strptime(text, fmt)
        except ValueError:
            continue
    return None


rows = json.load(sys.stdin)
dated = [k for k, v in rows[0].items() if isinstance(v, str) and parse(v)]
if not dated:
    print("no date column")
    sys.exit(0)
counts = Counter(parse(row[dated[0]]).strftime("%A") for row in rows)
print(dated[0], dict(counts))
