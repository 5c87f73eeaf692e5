"""
The warm interpreter: imports a template's modules once, then makes children that are ready to run a program each.

A child behaves as `python3 FILE` in everything a program can observe: a clean `__main__`, its own stack, tracebacks, exit
codes and signals, threads, atexit and finalizers. What would need another start of the interpreter is not run here at all
(the agent decides that). A program is handed over in one message; little is left to do between it and the first line.
This file is the zygote and how it speaks with the agent; `program.py` runs a program, `ending.py` ends it.

On the way from a program's arrival to its first line, and from its last line to the end, everything counts: in a clone
under emulation each piece of code that runs for the first time costs as much as a hundred that have run before. So there
is no ctypes call and no symbol lookup on that way unless it is needed, and little Python.

Differences that remain: modules imported beforehand are in sys.modules and are not torn down at the end; string hashes
are the same in all children; the modules' own import-time state is as old as the snapshot, but for what `renew` knows.
"""

import sys

PLAIN = frozenset(sys.modules) - {"__main__"}  # what every interpreter has loaded
WRITES_NONE, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # these files get no __pycache__ beside them

import gc  # noqa: E402
import os  # noqa: E402

import _socket  # noqa: E402
import ending  # noqa: E402
import layout  # noqa: E402
import program  # noqa: E402

sys.dont_write_bytecode = WRITES_NONE
for own in ("ending", "layout", "program"):
    del sys.modules[own]  # a program must not find them, and may have files of these names
CONTEXT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "context")
CONTEXT_NEEDS = {"ast", "binascii", "json", "select", "threading", "traceback"}

CONTROL = 3  # descriptor of the socket to the agent
CHILD_DESCRIPTORS = 4  # job, stdin, stdout, stderr; as in warm.c
JOB_BYTES = 60 * 1024  # as in warm.c


def read_job(descriptor):
    """
    The job, whole: four bytes with its length, four with how much of that is environment, then both, as texts that end with
    NUL. Nothing when the agent has closed the pipe.
    """
    job = os.read(descriptor, JOB_BYTES)
    length = int.from_bytes(job[:4], "little")
    while job and len(job) < length:
        more = os.read(descriptor, length - len(job))
        if not more:
            return b""
        job += more
    return job


def wait_for_job(descriptors):
    """A child's life. Its streams are in place before it knows its program, and its number is its first word on stdout."""
    job, *streams = descriptors
    os.setsid()
    os.close(CONTROL)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    ending.remember(PLAIN)
    gc.freeze()
    os.write(1, b"%d\n" % os.getpid())
    order = read_job(job)
    os.close(job)
    if order:
        program.run(order)
    os._exit(0)


def rehearse():
    """Does once what programs do first: what is loaded and cached by it is then there in every child."""
    if "matplotlib.pyplot" in sys.modules:
        import io

        pyplot = sys.modules["matplotlib.pyplot"]
        pyplot.switch_backend("agg")  # what a machine without a display comes to anyway
        figure, axes = pyplot.subplots()
        axes.plot([1, 2], [1, 2], label="a")
        axes.set_title("a")
        axes.legend()
        figure.savefig(io.BytesIO(), format="png")
        pyplot.close(figure)
    if "pandas" in sys.modules:
        import io

        pandas = sys.modules["pandas"]
        table = pandas.read_csv(io.StringIO("a,b\n1,x\n2,y\n"))
        str(table.groupby("b").sum()) + str(table.describe()) + table.to_csv()


def prepare_context():
    """
    Has a code context's files compiled in every child, and loaded where the template's modules have loaded all that they
    need: a program of another kind is not to pay for that.
    """
    path = os.fsencode(os.path.join(CONTEXT, "run.py"))
    run = {"__name__": "run", "__file__": os.fsdecode(path)}
    exec(compile(program.read_file(path), path, "exec", 0, True), run)
    parts = [run["read"](name) for name in run["FILES"]]
    loaded = CONTEXT_NEEDS <= sys.modules.keys()
    program.known[path] = {"start": run["load"](parts)} if loaded else {"parts": parts}


def announce(control):
    """What the agent needs to tell whether a program fits: search path, and the names that a file could shadow."""
    names = {name.partition(".")[0] for name in sys.modules if name not in PLAIN}
    paths = [os.fsencode(path) for path in sys.path[1:]]
    site = b".local/lib/python%d.%d/site-packages" % sys.version_info[:2]
    control.send(b"\0".join([b"ready", site, *paths, b"", *(name.encode() for name in names)]))


def make_child(descriptors):
    """Forks twice: the child belongs to the agent, which reports its end even when this process is gone."""
    between = os.fork()
    if between == 0:
        if os.fork() != 0:
            os._exit(0)
        wait_for_job(descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    os.waitpid(between, 0)


def main(names):
    import importlib

    layout.find_stack()
    layout.find_stdio()
    compile(b"", "", "exec", 0, True)  # makes the types of the syntax tree, which is half of a small program's time
    for name in names:
        importlib.import_module(name)
    rehearse()
    prepare_context()
    gc.collect()
    gc.freeze()
    control = _socket.socket(fileno=CONTROL)
    announce(control)
    while True:
        request, ancillary, _, _ = control.recvmsg(16, _socket.CMSG_SPACE(4 * CHILD_DESCRIPTORS))
        if not request:
            os._exit(0)
        raw = ancillary[0][2]
        make_child([int.from_bytes(raw[at : at + 4], sys.byteorder) for at in range(0, 4 * CHILD_DESCRIPTORS, 4)])


main(sys.argv[1:])
