"""
The warm interpreter: imports a template's modules once, then makes children that are ready to run a program each.

A child behaves as `python3 FILE` in everything a program can observe: a clean `__main__`, its own stack, tracebacks, exit
codes and signals, threads, atexit and finalizers. What would need another start of the interpreter is not run here at all
(the agent decides that). A program is handed over in one message; little is left to do between it and the first line.

On the way from a program's arrival to its first line, and from its last line to the end, everything counts: in a clone
under emulation each piece of code that runs for the first time costs as much as a hundred that have run before. So there
is no ctypes call and no symbol lookup on that way unless it is needed, and little Python.

Differences that remain: modules imported beforehand are in sys.modules and are not torn down at the end; string hashes
are the same in all children; the modules' own import-time state is as old as the snapshot, but for what `renew` knows.
"""

import sys

PLAIN = frozenset(sys.modules) - {"__main__"}  # what every interpreter has loaded

import atexit  # noqa: E402
import builtins  # noqa: E402
import ctypes  # noqa: E402
import gc  # noqa: E402
import os  # noqa: E402

import _signal  # noqa: E402
import _socket  # noqa: E402
import _warnings  # noqa: E402
import _weakref  # noqa: E402

CONTROL = 3  # descriptor of the socket to the agent
CHILD_DESCRIPTORS = 4  # job, stdin, stdout, stderr; as in warm.c
JOB_BYTES = 60 * 1024  # as in warm.c
SOURCE_BYTES = 64 * 1024
FILE_INPUT = 257  # Py_file_input
Module = type(sys)
api = ctypes.pythonapi


# The interpreter's own stack, as CPython 3.11 lays it out. A program starts on an empty one, so that no frame of ours is
# under its first (f_back, inspect, warnings, the recursion limit).
RECURSION_REMAINING, RECURSION_LIMIT, CFRAME = 32, 36, 56  # in PyThreadState
CURRENT_FRAME = 8  # in _PyCFrame
CODE = 32  # in _PyInterpreterFrame
# Where glibc's FILE keeps what it has not written yet.
WRITE_BASE, WRITE_PTR = 32, 40


def find_stack():
    """
    The slot that holds the current frame, and the count of calls that may still nest. Setting the slot to None hides all
    frames from the next call into C; a return from Python to Python fills it again, so it is set right before each.
    Ends the process when memory does not look like that layout: another Python is then better off without all this.
    """
    global top_frame, nesting
    api.PyThreadState_Get.restype = ctypes.c_void_p
    thread = api.PyThreadState_Get()
    nesting = ctypes.c_int.from_address(thread + RECURSION_REMAINING)
    limit = ctypes.c_int.from_address(thread + RECURSION_LIMIT).value
    top_frame = ctypes.c_void_p.from_address(ctypes.c_void_p.from_address(thread + CFRAME).value + CURRENT_FRAME)
    code = ctypes.c_void_p.from_address(top_frame.value + CODE).value
    known = limit == sys.getrecursionlimit() and limit - 50 < nesting.value <= limit
    if sys.version_info[:2] != (3, 11) or not known or code != id(sys._getframe().f_code):
        raise SystemExit(f"warm: unknown interpreter {sys.version}")


def find_stdio():
    """
    What tells whether C has buffered output: stdout's buffer, and the list of open files. Flushing all of them in any case
    would be a ctypes call, and very few programs print through C.
    """
    global c_base, c_ptr, c_files, c_files_known
    stdout = ctypes.c_void_p.in_dll(api, "stdout").value
    c_base = ctypes.c_void_p.from_address(stdout + WRITE_BASE)
    c_ptr = ctypes.c_void_p.from_address(stdout + WRITE_PTR)
    c_files = ctypes.c_void_p.in_dll(api, "_IO_list_all")
    c_files_known = c_files.value


def text(raw):
    return raw.decode("utf-8", "surrogateescape")


# ---- before the program ----------------------------------------------------------------------------------------------


def set_environment(entries):
    data = os.environ._data
    data.clear()
    api.clearenv()
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


# ---- after the program -----------------------------------------------------------------------------------------------


def unraisable_type():
    """The type of what `sys.unraisablehook` is called with; it has no name to get it by."""

    class Raises:
        def __del__(self):
            raise ValueError

    seen = []
    sys.unraisablehook = lambda given: seen.append(type(given))
    Raises()
    sys.unraisablehook = sys.__unraisablehook__
    return seen[0]


def unraisable(error, culprit):
    trace = error.__traceback__.tb_next  # the first frame is ours
    sys.unraisablehook(Unraisable((type(error), error.with_traceback(trace), trace, None, culprit)))


def call_alone(function, *arguments):
    """Calls without a frame of ours under it."""
    call = map(function, *[(argument,) for argument in arguments])
    top_frame.value = None
    return next(call)


def exit_code(error):
    """What SystemExit stands for; prints its message when it has one."""
    value = getattr(error, "code", error)
    if value is None:
        return 0
    if isinstance(value, int):
        return value & 0xFF if -(1 << 63) <= value < 1 << 63 else 255
    file = getattr(sys, "stderr", None) or sys.__stderr__
    for write in (lambda: file.write(str(value)), lambda: file.write("\n")):
        try:
            write()
        except BaseException:
            pass  # as CPython does: an exit that cannot be explained is still one
    return 1


def report(error):
    """PyErr_Print: the last word on an exception that the program did not catch; its exit code."""
    if isinstance(error, SystemExit):
        return exit_code(error)
    kind, trace = type(error), error.__traceback__
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace
    hook = getattr(sys, "excepthook", None)
    if hook is None:
        os.write(2, b"sys.excepthook is missing\n")
        sys.__excepthook__(kind, error, trace)
        return 1
    try:
        call_alone(hook, kind, error, trace)
        return 1
    except BaseException as raised:
        second = raised.with_traceback(raised.__traceback__.tb_next and raised.__traceback__.tb_next.tb_next)
    if isinstance(second, SystemExit):
        return exit_code(second)
    flush_quietly()
    os.write(2, b"Error in sys.excepthook:\n")
    sys.__excepthook__(type(second), second, second.__traceback__)
    flush_quietly()
    os.write(2, b"\nOriginal exception was:\n")
    sys.__excepthook__(kind, error, trace)
    return 1


def flush_quietly():
    for name in ("stderr", "stdout"):
        try:
            getattr(sys, name).flush()
        except BaseException:
            pass  # it is tried again at the end, where a failure counts


def flush_standard():
    """False when output was lost: Python then exits with 120."""
    good = True
    for name in ("stdout", "stderr"):
        file = getattr(sys, name, None)
        try:
            if file is None or getattr(file, "closed", False):
                continue
            file.flush()
        except BaseException as error:
            good = False
            if name == "stdout":
                unraisable(error, file)
    return good


def join_threads():
    threading = sys.modules.get("threading")
    try:
        if threading is not None:
            threading._shutdown()
    except BaseException as error:
        unraisable(error, threading)


def tear_down():
    """Destroys the program's own modules, in CPython's order, so that finalizers run and files are flushed."""
    modules, kept = sys.modules, preloaded
    own = ["__main__"]
    if len(modules) != len(kept) + 1 or "__main__" not in modules:
        own = [name for name in modules if name not in kept]
    if "last_value" in sys.__dict__:
        sys.last_type = sys.last_value = sys.last_traceback = None
    sys.argv = sys.path = sys.meta_path = sys.path_hooks = None
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
    alive = []
    top_frame.value = None
    for name in own:
        module = modules[name]
        if isinstance(module, Module):
            alive.append(_weakref.ref(module))
        modules[name] = module = None
    for name in PLAIN:
        modules[name] = None  # an import from a finalizer fails from here on; `held` keeps the modules
    gc.collect()
    for reference in reversed(alive):
        module = reference()
        if module is not None:
            api._PyModule_Clear(ctypes.py_object(module))
    for space, names in ((sys.__dict__, sys_names), (builtins.__dict__, builtin_names)):
        if len(space) > len(names):
            for name in space.keys() - names:
                space[name] = None


def finish(code, interrupted):
    """Py_FinalizeEx and exit, without what only gives back memory."""
    join_threads()
    top_frame.value = None
    atexit._run_exitfuncs()
    if not flush_standard():
        code = 120
    if gc.isenabled():
        gc.collect()
    tear_down()
    flush_quietly()
    if c_base.value != c_ptr.value or c_files.value != c_files_known:
        api.fflush(None)
    if interrupted:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        os.kill(os.getpid(), _signal.SIGINT)
    os._exit(code)


# ---- the program -----------------------------------------------------------------------------------------------------


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
    api.fopen.restype = ctypes.c_void_p
    file = api.fopen(path, b"rb")
    space = ctypes.py_object(space)
    top_frame.value = None
    nesting.value = sys.getrecursionlimit() + 1  # the call itself counts as one
    api.PyRun_FileExFlags(ctypes.c_void_p(file), path, FILE_INPUT, space, space, 1, None)


def execute(path, source):
    """Runs FILE; what it raised, or None."""
    name = text(path)
    space = clean_main(name)
    code = compiled(source, name)
    error = source = None
    try:
        if code is None:
            run_file(path, space)
        else:
            top_frame.value = None
            nesting.value = sys.getrecursionlimit() + 1  # as above
            exec(code, space)
    except BaseException as raised:
        trace = raised.__traceback__.tb_next  # the first frame is ours
        error = raised.with_traceback(trace.tb_next if code is None else trace)  # and run_file's
    flush_quietly()
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
        code = report(error)
    if not isinstance(error, SystemExit) and "__main__" in sys.modules:
        for name in ("__file__", "__cached__"):
            sys.modules["__main__"].__dict__.pop(name, None)
    error = None
    finish(code, interrupted)


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
    global preloaded, held, sys_names, builtin_names
    job, *streams = descriptors
    os.setsid()
    os.close(CONTROL)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    preloaded, held = frozenset(sys.modules) - {"__main__"}, list(sys.modules.values())
    sys_names, builtin_names = frozenset(sys.__dict__), frozenset(builtins.__dict__)
    gc.freeze()
    os.write(1, b"%d\n" % os.getpid())
    program = read_job(job)
    os.close(job)
    if program:
        run(program)
    os._exit(0)


# ---- the zygote ------------------------------------------------------------------------------------------------------


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
    global SourceFileLoader, Unraisable, CRandom
    import importlib
    from _random import Random as CRandom
    from importlib.machinery import SourceFileLoader

    find_stack()
    find_stdio()
    compile(b"", "", "exec", 0, True)  # makes the types of the syntax tree, which is half of a small program's time
    Unraisable = unraisable_type()
    for name in names:
        importlib.import_module(name)
    rehearse()
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
