# takes: json
# leaves: result.json
# The five rows with the largest numeric value, as JSON.
import json

with open("/work/input.json") as f:
    rows = json.load(f)
field = next(k for k, v in rows[0].items() if isinstance(v, (int, float)) and not isinstance(v, bool))
top = sorted(rows, key=lambda row: row[field] if row[field] is not None else float("-inf"), reverse=True)[:5]
with open("/work/result.json", "w") as f:
    json.dump({"by": field, "rows": top}, f, indent=1)
print(f"wrote {len(top)} rows by {field}")
