# takes: csv
# leaves: groups
# One CSV per value of the first text column, in a directory.
import csv
import os
import re
from collections import defaultdict

with open("data.csv", newline="") as f:
    reader = csv.DictReader(f)
    fields = reader.fieldnames
    groups = defaultdict(list)
    for row in reader:
        groups[row[fields[0]]].append(row)
os.makedirs("groups", exist_ok=True)
for name, rows in list(groups.items())[:12]:
    path = os.path.join("groups", re.sub(r"\W+", "-", name) + ".csv")
    with open(path, "w", newline="") as f:
        writer = csv.DictWriter(f, fields)
        writer.writeheader()
        writer.writerows(rows)
print(f"{len(groups)} groups, {len(os.listdir('groups'))} files")
