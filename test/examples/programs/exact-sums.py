# takes: stdin
# Sums that do not lose cents: floats against decimals.
import json
import sys
from decimal import Decimal
from fractions import Fraction

rows = json.load(sys.stdin, parse_float=Decimal)
for field, first in rows[0].items():
    if not isinstance(first, (int, Decimal)):
        continue
    values = [row[field] for row in rows if isinstance(row[field], (int, Decimal))]
    exact = sum((Fraction(v) for v in values), Fraction(0))
    loose = sum(float(v) for v in values)
    print(f"{field}: {float(exact)!r} exactly, off by {abs(float(exact - Fraction(loose))):.2e} in floats")
