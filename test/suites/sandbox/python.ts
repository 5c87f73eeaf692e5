/** Python from the warm interpreter: what `python3 FILE` does, in a process of its own. */
import { expect } from "bun:test";
import type { Subject } from "./subject.ts";

export function pythonTests({ shared, needs }: Subject): void {
  needs("python", "python prints, fails and exits as a script does", async () => {
    expect(await shared().python("print(6*7)")).toMatchObject({ stdout: "42\n", stderr: "", exitCode: 0 });
    const failed = await shared().python("x = 1\nraise ValueError('no')");
    expect(failed.exitCode).toBe(1);
    expect(failed.stderr).toContain('File "/work/item.py", line 2');
    expect(failed.stderr).toContain("ValueError: no");
    expect((await shared().python("import sys; sys.exit(3)")).exitCode).toBe(3);
    expect((await shared().python("import os; os.kill(os.getpid(), 15)")).signal).toBe("SIGTERM");
    expect((await shared().python("def broken(:")).exitCode).toBe(1);
  });

  needs("python", "python has its name, arguments, stdin, environment and directory", async () => {
    const code = "import sys, os; print(__name__, sys.argv, input(), os.environ['OWN'], os.getcwd())";
    const { stdout } = await shared().python(code, {
      args: ["a b", "ü"],
      stdin: "in\n",
      env: { OWN: "1" },
      cwd: "/tmp",
    });
    expect(stdout).toBe("__main__ ['/work/item.py', 'a b', 'ü'] in 1 /tmp\n");
  });

  needs("python", "python runs share nothing but files", async () => {
    await shared().python("import builtins; builtins.leak = 1; open('/tmp/kept', 'w').write('k')");
    const { stdout } = await shared().python(
      "import builtins; print(hasattr(builtins, 'leak'), open('/tmp/kept').read())",
    );
    expect(stdout).toBe("False k\n");
  });

  needs("python", "python is ended at its timeout with its children", async () => {
    const code = "import subprocess; print('up', flush=True); subprocess.run(['sleep', '1000'])";
    expect(await shared().python(code, { timeoutSeconds: 1.5 })).toMatchObject({ stdout: "up\n", timedOut: true });
  });
}
