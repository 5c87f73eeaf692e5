# takes: stdin
# Loads the table into SQLite and asks it questions.
import json
import sqlite3
import sys

rows = json.load(sys.stdin)
fields = list(rows[0])
db = sqlite3.connect(":memory:")
columns = ", ".join(f'"{field}"' for field in fields)
db.execute(f"CREATE TABLE data ({columns})")
marks = ", ".join("?" for _ in fields)
db.executemany(f"INSERT INTO data VALUES ({marks})", [[row.get(field) for field in fields] for row in rows])
print("rows:", db.execute("SELECT count(*) FROM data").fetchone()[0])
for field in fields:
    print(field, db.execute(f'SELECT count(DISTINCT "{field}"), min("{field}"), max("{field}") FROM data').fetchone())
