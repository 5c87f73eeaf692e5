"""
A code context: an interpreter that runs cells, one after another, in one name space, until it is closed. Its agent keeps it
as a command in the background; `session.py` says what goes over its stdin and stdout. This file is only how it is started:
in a child of the warm interpreter `start` is there already, else it is imported.
"""

try:
    start
except NameError:
    from session import start

start()
