"""
A code context: an interpreter that runs cells, one after another, in one name space, until it is closed. Its agent keeps it
as a command in the background; `session.py` says what goes over its stdin and stdout. This file is only how it is started:
in a child of the warm interpreter `start` is there already, else it is imported.
"""

try:
    start
except NameError:
    import sys

    keeps, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # these files get no __pycache__ beside them
    from session import start

    sys.dont_write_bytecode = keeps

start()
