"""
CPython's and glibc's own memory, where the warm interpreter has to look into it: the stack of frames, so that a program
starts on an empty one, and what C has buffered. `find_stack` and `find_stdio` find it, once; others read it from here.
"""

import ctypes
import sys

api = ctypes.pythonapi

# The stack as CPython 3.11 lays it out. A program starts on an empty one, so that no frame of ours is under its first
# (f_back, inspect, warnings, the recursion limit).
RECURSION_REMAINING, RECURSION_LIMIT, CFRAME = 32, 36, 56  # in PyThreadState
CURRENT_FRAME = 8  # in _PyCFrame
CODE = 32  # in _PyInterpreterFrame
# Where glibc's FILE keeps what it has not written yet.
WRITE_BASE, WRITE_PTR = 32, 40


def find_stack():
    """
    The slot that holds the current frame, and the count of calls that may still nest. Setting the slot to None hides all
    frames from the next call into C; a return from Python to Python fills it again, so it is set right before each.
    The slot is that of the call into C under way: whoever runs a program must have called this, not imported it.
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


def flush_c():
    """Writes what C has buffered, if anything."""
    if c_base.value != c_ptr.value or c_files.value != c_files_known:
        api.fflush(None)
