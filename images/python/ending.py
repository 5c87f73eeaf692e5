"""
The end of a program, as CPython ends one: the last word on its exception, threads, atexit, finalizers, lost output, the
exit code.
"""

import atexit
import builtins
import ctypes
import gc
import os
import sys

import _signal
import _weakref
import layout

Module = type(sys)


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


Unraisable = unraisable_type()


def remember(plain_names):
    """What is there before the program, of which the modules named are what every interpreter has loaded."""
    global plain, preloaded, held, sys_names, builtin_names
    plain = plain_names
    preloaded, held = frozenset(sys.modules) - {"__main__"}, list(sys.modules.values())
    sys_names, builtin_names = frozenset(sys.__dict__), frozenset(builtins.__dict__)


def unraisable(error, culprit):
    trace = error.__traceback__.tb_next  # the first frame is ours
    sys.unraisablehook(Unraisable((type(error), error.with_traceback(trace), trace, None, culprit)))


def call_alone(function, *arguments):
    """Calls without a frame of ours under it."""
    call = map(function, *[(argument,) for argument in arguments])
    layout.top_frame.value = None
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
    layout.top_frame.value = None
    for name in own:
        module = modules[name]
        if isinstance(module, Module):
            alive.append(_weakref.ref(module))
        modules[name] = module = None
    for name in plain:
        modules[name] = None  # an import from a finalizer fails from here on; `held` keeps the modules
    gc.collect()
    for reference in reversed(alive):
        module = reference()
        if module is not None:
            layout.api._PyModule_Clear(ctypes.py_object(module))
    for space, names in ((sys.__dict__, sys_names), (builtins.__dict__, builtin_names)):
        if len(space) > len(names):
            for name in space.keys() - names:
                space[name] = None


def finish(code, interrupted):
    """Py_FinalizeEx and exit, without what only gives back memory."""
    join_threads()
    layout.top_frame.value = None
    atexit._run_exitfuncs()
    if not flush_standard():
        code = 120
    if gc.isenabled():
        gc.collect()
    tear_down()
    flush_quietly()
    layout.flush_c()
    if interrupted:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        os.kill(os.getpid(), _signal.SIGINT)
    os._exit(code)
