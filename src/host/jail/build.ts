/** Our own C programs, compiled with gcc when this version of them is missing: HOME/bin/NAME-<digest of sources and flags>/. */
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { published } from "../home/publish.ts";
import { run } from "../run.ts";

export interface Program {
  readonly name: string;
  /** Path below the source folder → text; those that end in .c are compiled together. */
  readonly files: Readonly<Record<string, string>>;
  readonly flags: readonly string[];
}

async function compile(program: Program, dir: string): Promise<void> {
  for (const [name, text] of Object.entries(program.files)) {
    await mkdir(dirname(join(dir, "source", name)), { recursive: true });
    await Bun.write(join(dir, "source", name), text);
  }
  const sources = Object.keys(program.files).filter((name) => name.endsWith(".c"));
  const done = await run(["gcc", ...program.flags, "-o", join(dir, program.name), ...sources], {
    deadlineMs: LIMITS.compileMs,
    cwd: join(dir, "source"),
  });
  if (done.exitCode === 0) return;
  throw new WarrenError("host_unsupported", `${program.name} does not compile: apt-get install gcc libc6-dev`, {
    cause: new Error(done.stderr),
  });
}

const built = new Map<string, Promise<string>>();

/**
 * Path of the program, compiled (0.2 s) on first use.
 * @throws {WarrenError} `host_unsupported` – no compiler
 */
export function builtProgram(home: string, program: Program): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256").update(JSON.stringify([program.files, program.flags]));
  const dir = join(home, "bin", `${program.name}-${hash.digest("hex").slice(0, 16)}`);
  let path = built.get(dir);
  if (path === undefined) {
    path = mkdir(join(home, "bin"), { recursive: true, mode: 0o700 })
      .then(() => published(dir, (partial) => compile(program, partial)))
      .then((at) => join(at, program.name));
    built.set(dir, path);
    void path.catch(() => built.delete(dir)); // the caller hears of the failure; the next one tries again
  }
  return path;
}
