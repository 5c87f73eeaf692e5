# takes: stdin
# The most frequent words of all text fields.
import json
import re
import sys
from collections import Counter

rows = json.load(sys.stdin)
words = Counter()
for row in rows:
    for value in row.values():
        if isinstance(value, str):
            words.update(re.findall(r"[a-z']+", value.lower()))
for word, count in words.most_common(8):
    print(f"{count:6} {word}")
print(len(words), "different words")
