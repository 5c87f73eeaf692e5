/** Programs that do something with the machine around them: files, processes, threads, modules. Part of the table in programs.ts. */
import { lines, type Program } from "./programs.ts";

/** Input, output and what runs beside and after the main thread. */
export const activities: Readonly<Record<string, Program>> = {
  "reads a line": { code: "print(repr(input('name? ')))\n", stdin: "Ada\nrest" },
  "reads a line at the end of input": { code: "input()\n" },
  "reads all input": { code: "import sys; print(sum(map(int, sys.stdin)))\n", stdin: "1\n2\n3" },
  "reads input as bytes": { code: "import sys; print(sys.stdin.buffer.read())\n", stdin: "\u00ff\n" },
  "writes to both streams": {
    code: lines(
      "import sys",
      "for i in range(5):",
      "    print(i)",
      "    print(-i, file=sys.stderr)",
      "sys.stdout.write('no newline')",
    ),
  },
  "writes much": { code: "for i in range(60000): print(i, 'x' * 10)\n" },
  "writes bytes": { code: "import sys; sys.stdout.buffer.write(bytes(range(256)))\n" },
  "replaces stdout": {
    code: lines(
      "import sys, io",
      "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='latin-1')",
      "print('\\xff')",
    ),
  },
  "detaches stdout": { code: lines("import sys", "b = sys.stdout.detach()", "b.write(b'raw')") },
  "leaves a file open": {
    code: lines(
      "import os",
      "p = __file__ + '.out'",
      "f = open(p, 'w')",
      "f.write('kept')",
      "import atexit",
      "atexit.register(lambda: print(os.path.getsize(p)))",
    ),
  },
  "uses a file that a former left open": {
    code: "import glob, os; print([open(p).read() for p in glob.glob(os.path.dirname(__file__) + '/*.out')])\n",
  },
  "writes through C to a file that it leaves open": {
    code: lines(
      "import ctypes, os",
      "c = ctypes.CDLL(None)",
      "c.fopen.restype = ctypes.c_void_p",
      "f = c.fopen((__file__ + '.c').encode(), b'w')",
      "c.fputs(b'kept by C', ctypes.c_void_p(f))",
      "if os.fork() == 0: raise SystemExit",
      "os.wait()",
      "print(open(__file__ + '.c').read())",
    ),
  },
  "prints through C": { code: "import ctypes; ctypes.CDLL(None).printf(b'from C\\n')\n" },
  "finalizes objects in order": {
    code: lines(
      "class A:",
      "    def __init__(self, n): self.n = n",
      "    def __del__(self): print('del', self.n, __name__)",
      "a = A(1); b = A(2); _c = A(3)",
      "cycle = A(4); cycle.self = cycle",
      "def f(): return a",
      "import atexit",
      "atexit.register(lambda: print('atexit', '__file__' in globals()))",
      "print('end')",
    ),
  },
  "finalizes after an exception": {
    code: lines(
      "class A:",
      "    def __del__(self): print('gone')",
      "def f():",
      "    a = A()",
      "    raise ValueError",
      "f()",
    ),
  },
  "finalizes after sys.exit": {
    code: lines("class A:", "    def __del__(self): print('gone')", "a = A()", "raise SystemExit(2)"),
  },
  "runs atexit in reverse": { code: lines("import atexit", "for i in range(3): atexit.register(print, i)") },
  "leaves a thread running": {
    code: lines(
      "import threading, time",
      "def f():",
      "    time.sleep(0.05)",
      "    print('thread', '__file__' in globals())",
      "threading.Thread(target=f).start()",
      "print('main')",
    ),
  },
  "leaves a daemon thread running": {
    code: lines(
      "import threading, time",
      "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
      "print('main')",
    ),
  },
  "leaves a thread running after an exception": {
    code: lines(
      "import threading, time",
      "threading.Thread(target=lambda: (time.sleep(0.05), print('t'))).start()",
      "1/0",
    ),
  },
  "uses an executor": {
    code: lines(
      "from concurrent.futures import ThreadPoolExecutor",
      "e = ThreadPoolExecutor(3)",
      "print(sum(e.map(abs, range(50))))",
      "e.submit(print, 'late')",
    ),
  },
  "handles a signal": {
    code: lines(
      "import signal, os",
      "signal.signal(signal.SIGUSR1, lambda n, f: print('got', n, f.f_code.co_name))",
      "os.kill(os.getpid(), signal.SIGUSR1)",
      "print('on')",
    ),
  },
  "has an alarm": { code: lines("import signal, time", "signal.setitimer(signal.ITIMER_REAL, 0.05)", "time.sleep(5)") },
  "pickles its own class": {
    code: lines(
      "import pickle",
      "class P:",
      "    def __init__(self): self.x = 1",
      "print(pickle.loads(pickle.dumps(P())).x, P.__module__, P.__qualname__)",
    ),
  },
  "forks workers": {
    code: lines(
      "import multiprocessing as m",
      "def f(x): return x * x",
      "if __name__ == '__main__':",
      "    m.set_start_method('fork')",
      "    with m.Pool(2) as p: print(p.map(f, range(5)))",
    ),
  },
  "spawns workers": {
    code: lines(
      "import multiprocessing as m",
      "def f(q): q.put(__name__)",
      "if __name__ == '__main__':",
      "    m.set_start_method('spawn')",
      "    q = m.Queue()",
      "    p = m.Process(target=f, args=(q,)); p.start()",
      "    print(q.get()); p.join(); print(p.exitcode)",
    ),
  },
  "forks by hand": {
    code: lines(
      "import os",
      "print('before')",
      "pid = os.fork()",
      "if pid == 0: print('child'); raise SystemExit(3)",
      "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))",
    ),
  },
  "runs commands": {
    code: lines(
      "import subprocess",
      "r = subprocess.run('cat; echo err >&2; exit 4', shell=True, input='in', capture_output=True, text=True)",
      "print(r)",
    ),
  },
  "runs itself again": {
    code: lines(
      "import subprocess, sys",
      "if len(sys.argv) == 1:",
      "    print(subprocess.run([sys.executable, __file__, 'x'], capture_output=True))",
      "else: print('inner', sys.argv[1])",
    ),
  },
  "uses dataclasses and typing": {
    code: lines(
      "from __future__ import annotations",
      "from dataclasses import dataclass, field",
      "import typing",
      "@dataclass(order=True)",
      "class A:",
      "    x: int",
      "    y: list[int] = field(default_factory=list)",
      "print(A(1), A(1) < A(2), typing.get_type_hints(A), __annotations__)",
    ),
  },
  "uses asyncio": {
    code: lines(
      "import asyncio",
      "async def f(n):",
      "    await asyncio.sleep(0.01)",
      "    return n",
      "async def main(): return await asyncio.gather(*(f(i) for i in range(5)))",
      "print(asyncio.run(main()))",
    ),
  },
  "is interrupted in asyncio": {
    code: lines(
      "import asyncio, os, signal",
      "async def main():",
      "    os.kill(os.getpid(), signal.SIGINT)",
      "    await asyncio.sleep(5)",
      "asyncio.run(main())",
    ),
  },
  logs: {
    code: lines(
      "import logging",
      "logging.warning('root')",
      "logging.basicConfig(format='%(levelname)s %(funcName)s %(message)s')",
      "logging.getLogger('x').error('named', stack_info=True)",
    ),
  },
  "seeds its generators": {
    code: lines("import random", "random.seed(1)", "print(random.random(), random.randrange(100))"),
  },
  "evaluates and executes": { code: lines("exec('y = 2', globals())", "print(y, eval('y + 1'))", "exec('1/0')") },
  "uses contextlib and generators": {
    code: lines(
      "import contextlib",
      "@contextlib.contextmanager",
      "def c():",
      "    try: yield 1",
      "    finally: print('closed')",
      "with c() as x: print(x)",
      "g = (i for i in range(3))",
      "next(g)",
    ),
  },
  "leaves a generator suspended": {
    code: lines("def g():", "    try: yield", "    finally: print('closed')", "x = g()", "next(x)"),
  },
  "makes a temporary directory": {
    code: lines(
      "import tempfile, os",
      "d = tempfile.TemporaryDirectory()",
      "print(os.path.dirname(d.name), tempfile.gettempdir())",
    ),
    env: { TMPDIR: "/var/tmp" },
  },
  "uses a weak reference at the end": {
    code: lines(
      "import weakref",
      "class A: pass",
      "a = A()",
      "weakref.finalize(a, print, 'finalized')",
      "r = weakref.ref(a, lambda r: print('ref'))",
    ),
  },
  "prints from an unraisable hook": {
    code: lines(
      "import sys",
      "sys.unraisablehook = lambda u: print('unraisable', u.exc_type.__name__, u.object.__qualname__)",
      "class A:",
      "    def __del__(self): 1/0",
      "a = A()",
    ),
  },
  "looks for the interpreter's own files": {
    code: lines(
      "import sys",
      "print([n for n in ('warm', 'program', 'ending', 'layout') if n in sys.modules], sys.dont_write_bytecode)",
      "for name in ('ending', 'layout'):",
      "    try: __import__(name)",
      "    except ImportError as e: print(e)",
    ),
  },
};
