"""
A code context: an interpreter that runs cells, one after another, in one name space, until it is closed. Its agent keeps it
as a command in the background; `session.py` says what goes over its stdin and stdout. This file is only how it is started:
a child of the warm interpreter has its files compiled (`parts`) or even loaded (`start`), any other reads them.
"""

import os
import sys

FILES = ("wire", "capture", "cell", "seeds", "shown", "session")  # each after those that it imports


def read(name):
    path = os.path.join(os.path.dirname(__file__), f"{name}.py")
    with open(path, "rb") as file:
        return name, path, compile(file.read(), path, "exec", 0, True)


def load(files):
    """What begins the context. Its files are in no list of modules: a program must not find them, and may have its own."""
    for name, path, code in files:
        module = sys.modules[name] = type(sys)(name)
        module.__file__ = path
        exec(code, module.__dict__)
    return [sys.modules.pop(name) for name, _, _ in files][-1].start


if __name__ == "__main__":
    known = globals()
    (known.get("start") or load(known.get("parts") or [read(name) for name in FILES]))()
