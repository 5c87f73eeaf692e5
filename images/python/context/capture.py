"""
What a cell prints, and what its subprocesses print: descriptors 1 and 2 are pipes that a thread reads. What comes while no
cell runs, for instance from a thread, is shown with the next one.
"""

import codecs
import fcntl
import os
import select
import struct
import sys
import termios
import threading

import wire

READ_BYTES = 12 * 1024
CELL_BYTES = 4 * 1024 * 1024  # of one cell's output; the rest is dropped
BETWEEN_BYTES = 64 * 1024
NAMES = {1: "stdout", 2: "stderr"}


class Stream:
    def __init__(self, number):
        reading, writing = os.pipe()
        self.number = number
        self.descriptor = wire.move_aside(reading)
        os.close(reading)
        os.dup2(writing, number)
        os.close(writing)
        os.set_blocking(self.descriptor, False)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")


def reopen(number):
    """`sys.stdout` and `sys.stderr` as a program without a terminal would have them, but by the line: someone looks on."""
    old = getattr(sys, NAMES[number])
    encoding, errors = getattr(old, "encoding", None) or "utf-8", "backslashreplace" if number == 2 else "surrogateescape"
    file = open(number, "w", encoding=encoding, errors=errors, buffering=1, closefd=False)
    setattr(sys, NAMES[number], file)
    setattr(sys, f"__{NAMES[number]}__", file)


class Capture:
    def __init__(self, line):
        self.wire = line
        self.cell = None
        self.left = 0
        self.cut = False
        self.between = []
        self.between_bytes = 0
        self.lock = threading.RLock()
        self.streams = [Stream(1), Stream(2)]
        reopen(1)
        reopen(2)

    def start(self):
        threading.Thread(target=self.pump, name="context-output", daemon=True).start()

    def pump(self):
        poll = select.poll()
        for stream in self.streams:
            poll.register(stream.descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, events in poll.poll() if events}
            with self.lock:
                for stream in self.streams:
                    if stream.descriptor in ready:
                        self.take(stream, READ_BYTES)

    def take(self, stream, most):
        """Passes on what the pipe holds, at most so many bytes; how many it were."""
        try:
            raw = os.read(stream.descriptor, min(most, READ_BYTES))
        except BlockingIOError:
            return 0
        if self.cell is None:
            self.keep(stream, raw)
        else:
            self.show(stream, raw)
        return len(raw)

    def keep(self, stream, raw):
        self.between_bytes += len(raw)
        if self.between_bytes <= BETWEEN_BYTES:
            self.between.append((stream, raw))

    def show(self, stream, raw):
        kept = raw[: self.left]
        self.left -= len(kept)
        self.cut |= len(kept) < len(raw)
        text = stream.decoder.decode(kept)
        if text:
            self.wire.say(self.cell, "out", s=stream.number, d=text)

    def begin(self, cell):
        with self.lock:
            self.cell, self.left, self.cut = cell, CELL_BYTES, self.between_bytes > BETWEEN_BYTES
            held, self.between, self.between_bytes = self.between, [], 0
            for stream, raw in held:
                self.show(stream, raw)

    def drain(self):
        """All that has been written until now. What a subprocess goes on writing is not waited for."""
        for name in NAMES.values():
            try:
                getattr(sys, name).flush()
            except (AttributeError, OSError, ValueError):
                pass  # the program has closed or replaced it: then there is nothing of ours to flush
        with self.lock:
            for stream in self.streams:
                held = struct.unpack("i", fcntl.ioctl(stream.descriptor, termios.FIONREAD, b"\0" * 4))[0]
                while held > 0:
                    taken = self.take(stream, held)
                    if taken == 0:
                        break
                    held -= taken

    def end(self):
        """The cell is over; True when some of its output was dropped."""
        with self.lock:
            for stream in self.streams:
                rest = stream.decoder.decode(b"", True)
                stream.decoder.reset()
                if rest and self.cell is not None:
                    self.wire.say(self.cell, "out", s=stream.number, d=rest)
            self.cell = None
            return self.cut
