# takes: stdin
# Text to URL slugs: Unicode taken apart, marks dropped.
import json
import re
import sys
import unicodedata


def slug(text):
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


rows = json.load(sys.stdin)
texts = sorted({v for row in rows for v in row.values() if isinstance(v, str)})
for text in texts[:10]:
    print(f"{text!r} -> {slug(text)!r}")
print(len(texts), "texts,", len({slug(t) for t in texts}), "slugs")
