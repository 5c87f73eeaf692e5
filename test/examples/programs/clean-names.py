# takes: stdin
# Column names to snake_case with regular expressions; values trimmed.
import json
import re
import sys


def snake(name):
    name = re.sub(r"[^0-9A-Za-z]+", "_", name.strip())
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"_+", "_", name).strip("_").lower()


rows = json.load(sys.stdin)
cleaned = [{snake(k): v.strip() if isinstance(v, str) else v for k, v in row.items()} for row in rows]
json.dump(cleaned[:3], sys.stdout, indent=1)
print()
print(sorted(cleaned[0]))
