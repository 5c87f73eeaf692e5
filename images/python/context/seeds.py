"""
Randomness after a fork: two copies of one interpreter must not draw the same numbers. The generators of `random` and numpy
that everybody shares are seeded anew when the machine is another than at the cell before, unless the program has seeded
them itself with a number of its own: then it wants the same numbers everywhere. A program's own generators are its own.
"""

import os
import sys

BOOT_ID = "/proc/sys/kernel/random/boot_id"
SHARED = ("random", "numpy.random")


def boot_id():
    try:
        with open(BOOT_ID, "rb", buffering=0) as file:
            return file.read(64)
    except OSError:
        return b""


class Seeds:
    def __init__(self):
        self.boot = boot_id()
        self.fixed = set()
        self.watched = set()

    def watch(self, name):
        """Takes note when the program seeds this generator."""
        module = sys.modules[name]
        self.watched.add(name)
        for verb in ("seed", "setstate" if name == "random" else "set_state"):
            plain = getattr(module, verb, None)
            if plain is not None:
                setattr(module, verb, self.noting(name, plain))

    def noting(self, name, plain):
        def seed(*given, **named):
            value = plain(*given, **named)
            chosen = [each for each in (*given[:1], *named.values()) if each is not None]
            (self.fixed.add if chosen else self.fixed.discard)(name)
            return value

        seed.__name__, seed.__doc__ = getattr(plain, "__name__", "seed"), getattr(plain, "__doc__", None)
        return seed

    def before(self):
        for name in SHARED:
            if name in sys.modules and name not in self.watched:
                self.watch(name)
        now = boot_id()
        if now == self.boot:
            return
        self.boot = now
        if "random" in sys.modules and "random" not in self.fixed:
            sys.modules["random"]._inst.seed()
        if "numpy.random.mtrand" in sys.modules and "numpy.random" not in self.fixed:
            sys.modules["numpy.random.mtrand"]._rand.seed(list(os.urandom(64)))

    def after(self, source):
        """A generator that came with this cell, seeded perhaps before it was watched."""
        for name in SHARED:
            if name in sys.modules and name not in self.watched:
                self.watch(name)
                if "seed" in source:
                    self.fixed.add(name)
