# takes: csv
# leaves: data.csv.gz
# Compresses the table and checks that nothing was lost.
import gzip
import hashlib
import os

with open("data.csv", "rb") as f:
    data = f.read()
with gzip.open("data.csv.gz", "wb", compresslevel=6) as f:
    f.write(data)
with gzip.open("data.csv.gz") as f:
    same = hashlib.sha256(f.read()).digest() == hashlib.sha256(data).digest()
print(f"{len(data)} -> {os.path.getsize('data.csv.gz')} bytes, same: {same}")
