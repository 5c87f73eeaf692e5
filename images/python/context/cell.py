"""One cell: run as a notebook runs it, its last expression being its result, and what is told when it fails."""

import ast
import builtins
import linecache
import sys
import traceback

VALUE_CHARS = 8 * 1024
TRACE_CHARS = 24 * 1024
FRAMES = 60  # of one traceback, half from each end
OWN = __file__.rpartition("/")[0] + "/"  # files whose frames nobody wants to see
COROUTINE = 0x80  # in a code object's flags: inspect.CO_COROUTINE, without inspect
FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def file_name(count):
    return f"<cell {count}>"


class Space:
    """The names that cells share: a `__main__` of their own."""

    def __init__(self, show):
        self.count = 0
        self.show = show
        self.loop = None
        main = type(sys)("__main__")
        main.__builtins__ = builtins
        main.__annotations__ = {}
        self.own, sys.modules["__main__"] = sys.modules.get("__main__"), main
        self.names = main.__dict__
        builtins.display = self.display

    def display(self, *values):
        """Shows values as a cell's result is shown."""
        for value in values:
            self.show(value)

    def run(self, source):
        """What the cell failed with, or None."""
        try:
            self.execute(source)
        except BaseException as error:
            return error
        return None

    def execute(self, source):
        name = file_name(self.count)
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        tree = compile(source, name, "exec", FLAGS | ast.PyCF_ONLY_AST, True)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        if tree.body:
            self.evaluate(compile(tree, name, "exec", FLAGS, True))
        if last is None:
            return
        value = self.evaluate(compile(last, name, "eval", FLAGS, True))
        if value is None or source.rstrip().endswith(";"):
            return
        self.names["_"] = value
        self.show(value, True)

    def evaluate(self, code):
        value = eval(code, self.names)
        if not (code.co_flags & COROUTINE):
            return value
        import asyncio

        if self.loop is None:
            self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)
        task = self.loop.create_task(value)
        try:
            return self.loop.run_until_complete(task)
        finally:
            task.cancel()  # of a cell that was interrupted: it must not go on in the next one's time


def text_of(error):
    try:
        return str(error)[:VALUE_CHARS]
    except BaseException:
        return "<no text: its __str__ failed>"


def bare(trace):
    """From the first frame of a cell's on."""
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<cell "):
        trace = trace.tb_next
    return trace


def lines_of(error):
    """The traceback as Python prints it, without our own frames, and bounded."""
    try:
        told = traceback.TracebackException(type(error), error, bare(error.__traceback__), compact=True)
        told.stack[:] = [frame for frame in told.stack if not frame.filename.startswith(OWN)]
        if len(told.stack) > FRAMES:
            told.stack[FRAMES // 2 : -FRAMES // 2] = []
        lines = "".join(told.format()).splitlines()
    except BaseException:
        lines = [f"{type(error).__name__}: {text_of(error)}"]
    kept, left = [], TRACE_CHARS
    for line in lines:
        if left <= 0:
            break
        kept.append(line[: min(left, VALUE_CHARS)])
        left -= len(line) + 8
    return kept


def explain(error):
    """The fields of `error`; None when there is nothing to tell. SystemExit ends a cell, not its context."""
    if error is None or isinstance(error, SystemExit) and error.code in (None, 0):
        return None
    return {"name": type(error).__name__[:256], "value": text_of(error), "trace": lines_of(error)}
