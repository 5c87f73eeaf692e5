# takes: csv
# leaves: out.json
# CSV to JSON lines with the csv module, numbers recognised.
import csv
import json


def number(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text if text != "" else None


with open("data.csv", newline="") as f:
    rows = [{k: number(v) for k, v in row.items()} for row in csv.DictReader(f)]
with open("out.json", "w") as f:
    for row in rows:
        f.write(json.dumps(row) + "\n")
print(len(rows), "rows; first:", rows[0])
