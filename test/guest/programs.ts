/** Python programs whose every observable is compared between `python3 FILE` and the warm interpreter. */

export interface Program {
  readonly code: string;
  readonly args?: readonly string[];
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export const lines = (...all: readonly string[]): string => `${all.join("\n")}\n`;

/** Ends of a program: codes, messages, signals. */
const ends: Readonly<Record<string, Program>> = {
  "prints and ends": { code: "print(6*7)\n" },
  "is empty": { code: "" },
  "exits with an integer": { code: "import sys; sys.exit(7)\n" },
  "exits with 256": { code: "raise SystemExit(256)\n" },
  "exits with a negative integer": { code: "raise SystemExit(-3)\n" },
  "exits with an integer beyond C": { code: "raise SystemExit(2**70)\n" },
  "exits with True": { code: "raise SystemExit(True)\n" },
  "exits with None": { code: "import sys; sys.exit(None)\n" },
  "exits with text": { code: "import sys; print('out'); sys.exit('ünsaid')\n" },
  "exits with a tuple": { code: "raise SystemExit(1, 2)\n" },
  "exits with an object whose str fails": {
    code: lines("class A:", " def __str__(self): raise ValueError('no')", "raise SystemExit(A())"),
  },
  "exits through exit()": { code: "exit(3)\n" },
  "exits from a function in a handler": {
    code: lines("import sys", "try: 1/0", "except ZeroDivisionError: sys.exit(4)"),
  },
  "exits with a subclass of SystemExit": { code: lines("class E(SystemExit): pass", "raise E(9)") },
  "exits hard": { code: lines("import os, sys", "print('lost'); sys.stderr.write('kept')", "os._exit(5)") },
  "kills itself with SIGTERM": {
    code: "import os, signal; print('x', flush=True); os.kill(os.getpid(), signal.SIGTERM)\n",
  },
  "kills itself with SIGKILL": { code: "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n" },
  "kills itself with SIGSEGV": { code: "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n" },
  aborts: { code: "import os; print('unflushed'); os.abort()\n" },
  "crashes in C": { code: "import ctypes; ctypes.string_at(0)\n" },
  "is interrupted": { code: lines("print('out')", "raise KeyboardInterrupt") },
  "is interrupted by a signal": {
    code: "import os, signal; os.kill(os.getpid(), signal.SIGINT); [i for i in range(10**6)]\n",
  },
  "raises a subclass of KeyboardInterrupt": { code: lines("class K(KeyboardInterrupt): pass", "raise K('x')") },
  "ignores SIGINT and raises KeyboardInterrupt": {
    code: lines("import signal", "signal.signal(signal.SIGINT, signal.SIG_IGN)", "raise KeyboardInterrupt"),
  },
  "execs another program": { code: "import os; os.execvp('sh', ['sh', '-c', 'echo over; exit 6'])\n" },
};

/** What goes wrong, and how it is told. */
const failures: Readonly<Record<string, Program>> = {
  "fails in nested calls": { code: lines("def f(n):", "    return 1 // n if n == 0 else f(n - 1)", "f(3)") },
  "fails while handling": {
    code: lines("try:", "    {}['a']", "except KeyError as e:", "    raise ValueError('second') from e"),
  },
  "fails with a context": { code: lines("try:", "    1/0", "except ZeroDivisionError:", "    undefined_name") },
  "fails with a note": { code: lines("e = ValueError('x')", "e.add_note('noted')", "raise e") },
  "raises a group": { code: "raise ExceptionGroup('g', [ValueError(1), TypeError('t')])\n" },
  "has a syntax error": { code: lines("x = 1", "if x ==:", "    pass") },
  "has an indentation error": { code: lines("def f():", "return 1") },
  "has a tab error": { code: "if 1:\n\tx=1\n        y=2\n" },
  "has an unterminated string": { code: "x = 'abc\n" },
  "has a NUL byte": { code: "x = 1\0\n" },
  "declares an unknown encoding": { code: "# -*- coding: nonsense -*-\nprint(1)\n" },
  "begins with a byte order mark": { code: "\uFEFFprint('bom')\n" },
  "warns of its own syntax": { code: "x = 1\nprint(x is 1)\n" },
  "warns of its own syntax and has none": { code: "x = 1\nprint(x is 1)\nreturn\n" },
  "declares another encoding": { code: "# coding: latin-1\nprint(ascii('\u00ff'), len('\u00ff'))\n" },
  "ends its lines as old machines did": { code: "x = 1\rprint(x)\r\nprint('a\\\rb')\r" },
  "uses an escape that is none": { code: "print('\\d', b'\\q')\n" },
  "nests too deep for the parser": { code: `x = ${"(".repeat(300)}${")".repeat(300)}\n` },
  "nests too deep for the compiler": { code: `x = ${"-".repeat(5000)}1\n` },
  "has a future statement": {
    code: "from __future__ import annotations\ndef f(a: undefined_name): pass\nprint(f.__annotations__)\n",
  },
  "has a future that is none": { code: "from __future__ import nothing_known\n" },
  "says nothing but a comment": { code: "# nothing" },
  "has an error in an imported module": {
    code: lines(
      "import sys, os",
      "open(os.path.dirname(__file__) + '/broken_part.py', 'w').write('def g():\\n    raise OSError(2, \"no\")\\n')",
      "import broken_part",
      "broken_part.g()",
    ),
  },
  "recurses too deep": {
    code: lines(
      "def f(n):",
      "    global deepest",
      "    deepest = n",
      "    f(n + 1)",
      "try: f(0)",
      "except RecursionError: print(deepest)",
      "f(0)",
    ),
  },
  "recurses after raising the limit": {
    code: lines("import sys", "sys.setrecursionlimit(300)", "def f(n): return f(n + 1)", "f(0)"),
  },
  "fails in a thread": {
    code: lines(
      "import threading",
      "def f(): 1/0",
      "t = threading.Thread(target=f)",
      "t.start(); t.join()",
      "print('on')",
    ),
  },
  "fails in a finalizer": { code: lines("class A:", "    def __del__(self): 1/0", "A()", "a = A()") },
  "fails in atexit": {
    code: lines(
      "import atexit",
      "@atexit.register",
      "def f(): raise ValueError('late')",
      "atexit.register(print, 'first')",
    ),
  },
  "exits in atexit": { code: lines("import atexit, sys", "atexit.register(sys.exit, 5)", "print('x')") },
  "has its own excepthook": {
    code: lines(
      "import sys, traceback",
      "def hook(t, v, tb):",
      "    print('hook', t.__name__, v, len(traceback.extract_tb(tb)), len(traceback.extract_stack()))",
      "sys.excepthook = hook",
      "def f(): raise ValueError(1)",
      "f()",
    ),
  },
  "has an excepthook that fails": {
    code: lines("import sys", "def hook(t, v, tb): raise TypeError('in hook')", "sys.excepthook = hook", "1/0"),
  },
  "has an excepthook that exits": {
    code: lines("import sys", "def hook(t, v, tb): sys.exit(33)", "sys.excepthook = hook", "1/0"),
  },
  "has no excepthook": { code: lines("import sys", "del sys.excepthook", "1/0") },
  "closes stdout": { code: lines("import sys", "print('x')", "sys.stdout.close()") },
  "closes descriptor 1": { code: lines("import os", "print('x')", "os.close(1)") },
  "prints what its encoding cannot": { code: "print('\\ud800')\n" },
  "reads what is no text": { code: "import sys; sys.stdin.buffer.read(); print(open('/proc/self/exe').read(10))\n" },
  warns: {
    code: lines("import warnings", "warnings.warn('careful')", "def f(): warnings.warn('deep', stacklevel=9)", "f()"),
  },
  "uses something deprecated": {
    code: lines("import warnings", "warnings.warn('old', DeprecationWarning)", "print('x')"),
  },
  asserts: { code: "assert 1 == 2, 'never'\n" },
  "raises something that cannot be printed": {
    code: lines("class E(Exception):", "    def __str__(self): raise RuntimeError", "raise E"),
  },
  "fails with a very long line": { code: `x = ${"(1 + ".repeat(40)}None${")".repeat(40)}\n` },
};

/** What a program sees of itself and its surroundings. */
const surroundings: Readonly<Record<string, Program>> = {
  "looks at its arguments": {
    code: "import sys; print(sys.argv, sys.orig_argv, len(sys.argv))\n",
    args: ["a", "", "-c", "ü", "two words"],
  },
  "looks at its module": {
    code: lines(
      "import sys",
      "print(__name__, __file__, __doc__, __package__, __spec__, __cached__, __annotations__)",
      "print(type(__loader__).__name__, __loader__.name, __loader__.path, __builtins__)",
      "print(list(globals()), sys.modules['__main__'].__dict__ is globals())",
    ),
  },
  "looks at sys": {
    code: lines(
      "import sys, os",
      "print(sys.path, sys.flags, sys.executable, sys.prefix, sys.warnoptions, sys._xoptions, sys.dont_write_bytecode)",
      "print(sys.getrecursionlimit(), sys.getswitchinterval(), sys.gettrace(), sys.getprofile(), sys.exc_info())",
      "print(sys.stdout, sys.stdin, sys.stderr, sys.stdout.line_buffering, sys.stderr.line_buffering)",
      "print(sys.stdin.encoding, sys.stdin.errors, sys.stdout.errors, sys.stderr.errors, sys.getfilesystemencoding())",
      "print(sys.stdin.seekable(), sys.stdout.seekable(), sys.stdout.isatty(), sys.stdout.buffer.raw)",
      "print(hasattr(sys, 'last_type'), hasattr(sys, 'ps1'), sys.excepthook is sys.__excepthook__)",
    ),
  },
  "looks at its process": {
    code: lines(
      "import os, signal",
      "print(os.getcwd(), os.getuid(), os.getgid(), os.getgroups(), os.umask(0o22), os.getpid() == os.getpgid(0) == os.getsid(0))",
      "print(dict(os.environ), os.path.exists('/proc/self/fd/3'), sorted(os.listdir('/proc/self/fd')))",
      "print([signal.getsignal(s) for s in sorted(signal.valid_signals())], signal.pthread_sigmask(signal.SIG_BLOCK, []))",
      "print(os.open('/dev/null', os.O_RDONLY), open('/proc/self/comm').read(), os.nice(0))",
      "os.system('env | sort; ls /proc/self/fd')",
    ),
  },
  "has an environment of its own": {
    code: lines(
      "import os, subprocess",
      "print(os.environ['A'], os.getenv('HOME'), list(os.environ))",
      "subprocess.run(['env'])",
    ),
    env: { A: "b=c", EMPTY: "" },
  },
  "reads variables that change the interpreter": {
    code: "import sys; print(sys.flags, sys.stdout.line_buffering)\n",
    env: { PYTHONOPTIMIZE: "2", PYTHONUNBUFFERED: "1" },
  },
  "looks at its stack": {
    code: lines(
      "import inspect, sys, traceback",
      "print(sys._getframe().f_back, len(inspect.stack()))",
      "traceback.print_stack()",
      "try: sys._getframe(1)",
      "except ValueError as e: print(e)",
    ),
  },
  "imports a neighbour": {
    code: lines(
      "import os",
      "open(os.path.join(os.path.dirname(__file__), 'neighbour_x.py'), 'w').write('print(__name__, __file__)\\nx = 1\\n')",
      "import neighbour_x",
      "print(neighbour_x.x, neighbour_x.__cached__)",
    ),
  },
  "is imported as itself": {
    code: lines(
      "import sys",
      "print(__name__)",
      "if __name__ == '__main__':",
      "    import __main__",
      "    print(__main__ is sys.modules['__main__'])",
    ),
  },
  "runs another module": { code: "import runpy; runpy.run_module('this')\n" },
  "counts its threads": {
    code: "import threading, os; print(threading.active_count(), threading.current_thread(), threading.main_thread().ident == threading.get_ident(), threading.get_native_id() == os.getpid())\n".replace(
      "threading.current_thread()",
      "threading.current_thread().name",
    ),
  },
  "looks into gc": { code: "import gc; print(gc.isenabled(), gc.get_threshold(), gc.garbage, gc.get_debug())\n" },
  "looks at its locale": {
    code: "import locale; print(locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(), locale.getlocale())\n",
  },
  "looks at its resources": { code: "import resource; print([resource.getrlimit(r) for r in range(10)])\n" },
};

export const programs: Readonly<Record<string, Program>> = { ...ends, ...failures, ...surroundings };
