"""
How a context speaks with the host: lines of JSON in ASCII, on descriptors of its own. What the host has not taken yet is
bounded, since a ring holds it in between that forgets: the host says how much it has read, and a writer waits for that.
"""

import fcntl
import json
import os
import threading
import time

PIECE_CHARS = 12 * 1024  # of one value in one line: six times as many bytes at worst
UNREAD_BYTES = 96 * 1024  # less than the agent's ring and what is under way together
PATIENCE_S = 10.0  # a host that takes nothing for so long has gone, and what it misses it is told about
LOOK_S = 0.1  # how often one that waits looks whether it has been interrupted
LOWEST = 100  # the numbers below are where a program expects its own descriptors


def move_aside(descriptor):
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, LOWEST)


class Wire:
    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.pid = os.getpid()
        self.changed = threading.Condition()
        self.writing = threading.Lock()
        self.unread = 0
        self.cell = None
        self.holding = 0  # the main thread is inside a line: it must not be interrupted there
        self.interrupted = False

    def begin(self, cell):
        with self.changed:
            self.cell, self.unread = cell, 0

    def taken(self, cell, count):
        """The host has read so many bytes of this cell's."""
        with self.changed:
            if cell == self.cell:
                self.unread = max(0, self.unread - count)
                self.changed.notify_all()

    def wait_for_room(self, main):
        with self.changed:
            end = time.monotonic() + PATIENCE_S
            while self.unread > UNREAD_BYTES and not (main and self.interrupted):
                left = end - time.monotonic()
                if left <= 0:
                    self.unread = -(1 << 60)  # nobody reads: the rest of this cell goes as it comes
                    return
                self.changed.wait(min(left, LOOK_S))

    def say(self, cell, kind, **fields):
        """One line, whole. A forked child of the program's has no voice here."""
        if os.getpid() != self.pid:
            return
        line = json.dumps({"c": cell, "k": kind, **fields}, separators=(",", ":")).encode() + b"\n"
        main = threading.get_ident() == threading.main_thread().ident
        if main:
            self.holding += 1  # while it waits too: an interrupt right after a lock was taken would leave it locked
        try:
            if cell is not None and cell == self.cell:
                self.wait_for_room(main)
            with self.writing:
                if cell is not None and cell == self.cell:
                    self.unread += len(line)
                while line:
                    line = line[os.write(self.descriptor, line) :]
        finally:
            if main:
                self.holding -= 1
        if main and self.interrupted and self.holding == 0:
            self.interrupted = False
            raise KeyboardInterrupt
