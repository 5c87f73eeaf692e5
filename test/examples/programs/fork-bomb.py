# takes: stdin
# timeout: 5
# tables: 3
# "Use all cores", taken too far.
import os

while True:
    try:
        os.fork()
    except OSError:
        pass
