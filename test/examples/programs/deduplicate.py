# takes: json
# leaves: result.json
# Drops rows that repeat another in all but their first field.
import json

with open("/work/input.json") as f:
    rows = json.load(f)
seen = set()
kept = []
for row in rows:
    key = json.dumps(list(row.values())[1:], sort_keys=True)
    if key not in seen:
        seen.add(key)
        kept.append(row)
with open("/work/result.json", "w") as f:
    json.dump({"before": len(rows), "after": len(kept)}, f)
print(f"{len(rows)} -> {len(kept)}")
