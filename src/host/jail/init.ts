/**
 * The jail's first process, built from ffi/init when this version of it is missing: a static program of 14 KB without libc,
 * at `HOME/bin/init-<digest of its sources>/warren-init`.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import dropSource from "../../../ffi/init/drop.c" with { type: "text" };
import filterSource from "../../../ffi/init/filter.c" with { type: "text" };
import initSource from "../../../ffi/init/init.c" with { type: "text" };
import initHeader from "../../../ffi/init/init.h" with { type: "text" };
import refusedHeader from "../../../ffi/init/refused.h" with { type: "text" };
import vmmSource from "../../../ffi/init/vmm.c" with { type: "text" };
import sysHeader from "../../../ffi/sys.h" with { type: "text" };
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { published } from "../home/publish.ts";
import { run } from "../run.ts";

const FILES: Readonly<Record<string, string>> = {
  "sys.h": sysHeader,
  "init/init.h": initHeader,
  "init/refused.h": refusedHeader,
  "init/init.c": initSource,
  "init/vmm.c": vmmSource,
  "init/drop.c": dropSource,
  "init/filter.c": filterSource,
};

/** Freestanding: no start-up code, no libc, no helper that the compiler might call. */
export const INIT_FLAGS = [
  ..."-Os -Wall -Wextra -Werror -ffreestanding -fno-builtin -fno-stack-protector -fno-asynchronous-unwind-tables".split(
    " ",
  ),
  ..."-nostdlib -static -fno-pie -no-pie -Wl,--build-id=none -Wl,-z,noexecstack".split(" "),
] as const;

async function compile(dir: string): Promise<void> {
  await mkdir(join(dir, "source/init"), { recursive: true });
  for (const [name, text] of Object.entries(FILES)) await Bun.write(join(dir, "source", name), text);
  const sources = Object.keys(FILES).filter((name) => name.endsWith(".c"));
  const done = await run(["gcc", ...INIT_FLAGS, "-o", join(dir, "warren-init"), ...sources], {
    deadlineMs: LIMITS.compileMs,
    cwd: join(dir, "source"),
  });
  if (done.exitCode === 0) return;
  throw new WarrenError(
    "host_unsupported",
    "the jail's first process does not compile: apt-get install gcc libc6-dev",
    {
      cause: new Error(done.stderr),
    },
  );
}

const built = new Map<string, Promise<string>>();

/**
 * Path of the program, compiled (0.2 s) on first use.
 * @throws {WarrenError} `host_unsupported` – no compiler
 */
export function jailInit(home: string): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256").update(JSON.stringify([FILES, INIT_FLAGS]));
  const dir = join(home, "bin", `init-${hash.digest("hex").slice(0, 16)}`);
  let program = built.get(dir);
  if (program === undefined) {
    program = mkdir(join(home, "bin"), { recursive: true, mode: 0o700 })
      .then(() => published(dir, compile))
      .then((at) => join(at, "warren-init"));
    built.set(dir, program);
    void program.catch(() => built.delete(dir)); // the caller hears of the failure; the next one tries again
  }
  return program;
}
