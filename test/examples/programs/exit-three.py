# takes: json
# Validates the data and tells the verdict by its exit code.
import json
import sys

with open("/work/input.json") as f:
    rows = json.load(f)
problems = []
fields = set(rows[0])
for number, row in enumerate(rows, 1):
    if set(row) != fields:
        problems.append(f"row {number}: other fields")
    if "id" not in row:
        problems.append(f"row {number}: no id")
print(f"{len(rows)} rows, {len(problems)} problems")
for problem in problems[:5]:
    print(problem, file=sys.stderr)
if problems:
    sys.exit(3)
