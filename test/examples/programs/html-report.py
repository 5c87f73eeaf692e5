# takes: stdin
# leaves: report.html
# A small HTML page about the table, everything escaped.
import html
import json
import sys
from string import Template

PAGE = Template("<!doctype html><title>$title</title><h1>$title</h1><table>$rows</table>")
rows = json.load(sys.stdin)
head = "".join(f"<th>{html.escape(k)}</th>" for k in rows[0])
body = "".join("<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in row.values()) + "</tr>" for row in rows[:20])
page = PAGE.substitute(title=f"{len(rows)} rows", rows=f"<tr>{head}</tr>{body}")
with open("/work/report.html", "w", encoding="utf-8") as f:
    f.write(page)
print(len(page), "characters")
