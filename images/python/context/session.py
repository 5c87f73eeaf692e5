"""
A context's life. The host's orders come on what was stdin, its answers go to what was stdout, both lines of JSON:

    {"op":"part","cell":C,"text":…}                 a piece of a cell's source
    {"op":"run","cell":C,"text":…,"timeoutMs":N}    its last piece: run it when its turn comes
    {"op":"took","cell":C,"bytes":N}                the host has read so much of this cell's answers
    {"op":"interrupt","cell":C or null}             ends the cell under way (if it is this one), or takes it out of the queue
    {"op":"ask","cell":C}                           how is it going?

    {"c":C,"k":"begin"|"out"|"mime"|"show"|"error"|"end"|"refused"|"state", …}

Cells run in the main thread, in order. A thread listens, so that a cell can be interrupted; one that does not end then, or
that goes on past its timeout in spite of it, takes the context with it.
"""

import collections
import json
import os
import select
import signal
import sys
import threading
import time

import capture
import cell as cells
import seeds
import shown
import wire

QUEUED = 32
SOURCE_CHARS = 2 * 1024 * 1024  # of all sources that are not complete yet
LINE_BYTES = 64 * 1024
GRACE_S = 2.0
AGAIN_S = 0.1  # until an interrupt that was not heard is sent again


def bell():
    """A pipe that wakes the listener, its ends where a program's own descriptors are not."""
    plain = os.pipe()
    ends = [wire.move_aside(each) for each in plain]
    for each in plain:
        os.close(each)
    return ends


class Session:
    def __init__(self):
        self.orders = wire.move_aside(0)
        self.wire = wire.Wire(wire.move_aside(1))
        self.bell = bell()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        sys.stdin = sys.__stdin__ = open(0, closefd=False)
        self.capture = capture.Capture(self.wire)
        self.shown = shown.Shown(self.wire)
        self.seeds = seeds.Seeds()
        self.space = cells.Space(self.show)
        self.parts = {}
        self.queue = collections.deque()
        self.waiting = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.current = None  # the cell under way
        self.armed = False  # an interrupt may be raised in it
        self.why = None  # "interrupted" or "timeout", once it was
        self.timeout_at = self.kill_at = None

    # The thread that listens.

    def listen(self):
        held = b""
        poll = select.poll()
        poll.register(self.orders, select.POLLIN)
        poll.register(self.bell[0], select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(self.patience())}
            if self.bell[0] in ready:
                os.read(self.bell[0], 1)
            if self.orders in ready:
                raw = os.read(self.orders, LINE_BYTES)
                if not raw:
                    os.killpg(0, signal.SIGKILL)  # nobody can ever write here again
                *lines, held = (held + raw).split(b"\n")
                for line in lines:
                    self.order(line)
            self.watch()

    def patience(self):
        with self.lock:
            due = [at for at in (self.timeout_at, self.kill_at) if at is not None]
            if self.why is not None and self.armed:
                due.append(time.monotonic() + AGAIN_S)
        return max(0.0, (min(due) - time.monotonic()) * 1000 + 1) if due else None

    def watch(self):
        now = time.monotonic()
        with self.lock:
            timed_out = self.timeout_at is not None and now >= self.timeout_at
            if self.kill_at is not None and now >= self.kill_at:
                os.killpg(0, signal.SIGKILL)
            unheard = self.current is not None and self.why is not None and self.armed
            cell = self.current
        if timed_out:
            self.interrupt(cell, "timeout")
        elif unheard:
            # It came right before a system call, which began all the same: another one ends that.
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def order(self, line):
        try:
            order = json.loads(line)
            op, cell = order["op"], order["cell"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return  # not one of the host's
        if op == "part":
            self.part(cell, order["text"])
        elif op == "run":
            self.enqueue(cell, self.parts.pop(cell, "") + order["text"], order["timeoutMs"])
        elif op == "took":
            self.wire.taken(cell, order["bytes"])
        elif op == "interrupt":
            self.interrupt(cell, "interrupted")
        elif op == "ask":
            with self.lock:
                busy = self.current is not None or len(self.queue) > 0
            self.wire.say(cell, "state", busy=busy, n=self.space.count)

    def part(self, cell, text):
        self.parts[cell] = self.parts.get(cell, "") + text
        while sum(map(len, self.parts.values())) > SOURCE_CHARS:
            del self.parts[next(iter(self.parts))]  # of a host that has gone: the others' are younger

    def enqueue(self, cell, source, timeout_ms):
        with self.lock:
            full = len(self.queue) >= QUEUED
            if not full:
                self.queue.append((cell, source, timeout_ms / 1000))
        if full:
            self.wire.say(cell, "refused")
        else:
            self.waiting.release()

    def interrupt(self, cell, why):
        with self.lock:
            self.parts.pop(cell, None)
            if cell is not None and cell != self.current:
                self.queue = collections.deque(each for each in self.queue if each[0] != cell)
                return
            if self.current is None or self.why is not None:
                return
            self.why, self.timeout_at = why, None
            self.kill_at = time.monotonic() + GRACE_S
            # As Ctrl-C: what the cell has started hears it as well. Before the next cell can have started anything.
            os.killpg(0, signal.SIGINT)

    # The main thread.

    def on_interrupt(self, number, frame):
        """Raises once, and only in the cell that is meant."""
        if os.getpid() != self.wire.pid:
            raise KeyboardInterrupt
        if not self.armed or self.why is None:
            return
        self.armed = False
        if self.wire.holding:
            self.wire.interrupted = True
        else:
            raise KeyboardInterrupt

    def show(self, value, result=False):
        if self.current is not None and os.getpid() == self.wire.pid:
            self.capture.drain()  # what was printed before it is shown before it
            self.shown.show(self.current, value, result)

    def serve(self):
        signal.signal(signal.SIGINT, self.on_interrupt)
        self.capture.start()
        threading.Thread(target=self.listen, name="context-orders", daemon=True).start()
        while True:
            self.waiting.acquire()
            with self.lock:
                if not self.queue:
                    continue  # it was taken out again
                cell, source, seconds = self.queue.popleft()
                self.current, self.why, self.kill_at = cell, None, None
                self.timeout_at = time.monotonic() + seconds
            self.run(cell, source)

    def run(self, cell, source):
        started = time.monotonic()
        self.wire.begin(cell)
        self.space.count += 1
        self.wire.say(cell, "begin", n=self.space.count)
        self.nudge()
        self.capture.begin(cell)
        self.shown.begin()
        self.seeds.before()
        failure = None
        try:
            try:
                self.armed = True
                if self.why is not None:
                    raise KeyboardInterrupt  # it came before there was anything to interrupt
                failure = self.space.run(source)
                self.capture.drain()
                self.shown.figures(cell)
                self.capture.drain()
            finally:
                self.armed = False
        except BaseException as error:
            self.armed = False
            failure = failure or error
        if os.getpid() != self.wire.pid:
            os._exit(0)  # a child that the program forked has come to the cell's end
        self.finish(cell, source, failure, started)

    def nudge(self):
        """The listener waits without a limit until it hears of the timeout."""
        os.write(self.bell[1], b"\0")

    def finish(self, cell, source, failure, started):
        self.wire.interrupted = False
        with self.lock:
            why = self.why
            self.current = self.timeout_at = self.kill_at = None
        self.capture.drain()
        self.seeds.after(source)
        stopped = isinstance(failure, KeyboardInterrupt) and why is not None
        told = cells.explain(failure)
        if told is not None:
            self.wire.say(cell, "error", **told)
        status = why if stopped else "ok" if told is None else "error"
        cut = self.capture.end() or self.shown.cut
        ms = (time.monotonic() - started) * 1000
        self.wire.say(cell, "end", status=status, n=self.space.count, ms=ms, cut=cut)


def start():
    sys.path[0] = ""  # as in any interactive interpreter: the working directory, not the one of these files
    Session().serve()
