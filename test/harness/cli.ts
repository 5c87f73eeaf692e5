/** The command line as its user runs it: a process of its own, on the test home unless told otherwise. */
import { join } from "node:path";
import { TEST_HOME } from "./vm.ts";

export const MAIN = join(import.meta.dir, "../../src/cli/main.ts");

export interface CliOptions {
  /** In place of, or beside, this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Put before the command, for instance `setpriv` and its options. */
  readonly by?: readonly string[];
}

export interface Told {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export async function cli(args: readonly string[], options: CliOptions = {}): Promise<Told> {
  const child = Bun.spawn([...(options.by ?? []), process.execPath, MAIN, ...args], {
    env: { ...process.env, WARREN_HOME: TEST_HOME, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, out, err };
}
