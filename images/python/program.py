"""One program in a child of the warm interpreter: from the job that the agent wrote to what `python3 FILE` would do with it."""

import builtins
import ctypes
import os
import sys
from _random import Random as CRandom
from importlib.machinery import SourceFileLoader

import _warnings
import ending
import layout

SOURCE_BYTES = 64 * 1024
FILE_INPUT = 257  # Py_file_input
Module = type(sys)
known = {}  # programs of ours by path, and what they find in `__main__`


def text(raw):
    return raw.decode("utf-8", "surrogateescape")


def set_environment(entries):
    data = os.environ._data
    data.clear()
    layout.api.clearenv()
    for entry in entries:
        name, _, value = entry.partition(b"=")
        data[name] = value
        os.putenv(name, value)


def become(user):
    uid, gid, *groups = [int(part) for part in user.split(b",")]
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def reseed(modules):
    """Every generator that a program may find already seeded. OpenSSL notices the fork by itself."""
    if "random" in modules:
        generator = modules["random"]._inst
        CRandom.seed(generator)  # what its own seed() comes to without an argument
        generator.gauss_next = None
    if "numpy.random.mtrand" in modules:
        modules["numpy.random.mtrand"].seed()
    if "multiprocessing.process" in modules:
        process = modules["multiprocessing.process"]
        process._current_process._config["authkey"] = process.AuthenticationString(os.urandom(32))


def renew(modules):
    """State that modules keep from when they were imported, and that would be fresh in a new interpreter."""
    if "logging" in modules:
        modules["logging"]._startTime = modules["time"].time()
    if "tempfile" in modules:
        modules["tempfile"].tempdir = None
        modules["tempfile"]._name_sequence = None
    if "multiprocessing.process" in modules:
        modules["multiprocessing.process"].ORIGINAL_DIR = os.getcwd()


def clean_main(path):
    """What `__main__` is when `python3 FILE` begins to run FILE."""
    main = Module("__main__")
    main.__annotations__ = {}
    main.__builtins__ = builtins
    main.__loader__ = SourceFileLoader("__main__", path)
    main.__file__ = path
    main.__cached__ = None
    sys.modules["__main__"] = main
    return main.__dict__


def fails(what, error):
    """As a shell says it."""
    os.write(2, f"{what}: {'not found' if error.errno == 2 else error.strerror}\n".encode("utf-8", "surrogateescape"))
    os._exit(126)


def read_file(path):
    """The file's bytes; None when it cannot be read, or is no regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    source = b""
    try:
        while True:
            piece = os.read(descriptor, SOURCE_BYTES)
            source += piece
            if len(piece) < SOURCE_BYTES:
                return source
    except OSError:
        return None
    finally:
        os.close(descriptor)


def compiled(source, path):
    """
    The code of a sound program. None for one that Python has something to say about: its words depend on that it reads a
    file, so it is then given the file.
    """
    _warnings.filters.insert(0, ("error", None, SyntaxWarning, None, 0))
    try:
        return compile(source, path, "exec", 0, True)
    except BaseException:
        return None
    finally:
        del _warnings.filters[0]


def run_file(path, space):
    """As CPython's own main does it."""
    layout.api.fopen.restype = ctypes.c_void_p
    file = layout.api.fopen(path, b"rb")
    space = ctypes.py_object(space)
    layout.top_frame.value = None
    layout.nesting.value = sys.getrecursionlimit() + 1  # the call itself counts as one
    layout.api.PyRun_FileExFlags(ctypes.c_void_p(file), path, FILE_INPUT, space, space, 1, None)


def execute(path, source):
    """Runs FILE; what it raised, or None."""
    name = text(path)
    space = clean_main(name)
    space.update(known.get(path, ()))
    code = compiled(source, name)
    error = source = None
    try:
        if code is None:
            run_file(path, space)
        else:
            layout.top_frame.value = None
            layout.nesting.value = sys.getrecursionlimit() + 1  # as above
            exec(code, space)
    except BaseException as raised:
        trace = raised.__traceback__.tb_next  # the first frame is ours
        error = raised.with_traceback(trace.tb_next if code is None else trace)  # and run_file's
    ending.flush_quietly()
    return error


def run(job):
    end = len(job) - int.from_bytes(job[4:8], "little")
    program = job[8 : end - 1].split(b"\0")
    path, directory, cwd, user, fresh = program[:5]
    arguments = program[5:]
    if end < len(job):
        set_environment(job[end:-1].split(b"\0"))
    try:
        if user:
            become(user)
        if cwd:
            os.chdir(cwd)
    except OSError as error:
        fails(text(cwd), error)
    if fresh == b"1":
        reseed(sys.modules)
    renew(sys.modules)
    source = read_file(path)
    argv = [text(path)]
    for argument in arguments:
        argv.append(text(argument))
    if source is None:  # python3 has its own words for that
        os.execv("/usr/bin/python3", ["python3", *argv])
    sys.argv = argv
    sys.orig_argv = ["python3", *argv]
    sys.path[0] = text(directory)
    error = execute(path, source)
    code, interrupted = 0, type(error) is KeyboardInterrupt
    if error is not None:
        code = ending.report(error)
    if not isinstance(error, SystemExit) and "__main__" in sys.modules:
        for name in ("__file__", "__cached__"):
            sys.modules["__main__"].__dict__.pop(name, None)
    error = None
    ending.finish(code, interrupted)
