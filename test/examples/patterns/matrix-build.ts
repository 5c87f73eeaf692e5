/**
 * A matrix build: the project is cloned, built and warmed once in a base sandbox; eight variants start from its snapshot and
 * run `make ci` at once, each in a machine of its own. What they need besides comes from a volume that all of them read.
 * `bun test/examples/patterns/matrix-build.ts`
 */
import { Sandbox, type Snapshot, Volume } from "warren";

const SOURCES: Readonly<Record<string, string>> = {
  Makefile: `VARIANT ?= plain
CFLAGS ?= -O1
PYTHON ?= python3
OUT = out/$(VARIANT)
ci: $(OUT)/check
	$(OUT)/check
	PYTHONPATH=/cache/python $(PYTHON) check.py
$(OUT)/check: $(OUT)/libbucket.a out/check.o
	$(CC) $(CFLAGS) -o $@ out/check.o $(OUT)/libbucket.a
out/check.o: check.c
	$(CC) -c -o $@ check.c
$(OUT)/libbucket.a: bucket.c
	mkdir -p $(OUT)
	$(CC) $(CFLAGS) -c -o $(OUT)/bucket.o bucket.c
	ar rcs $@ $(OUT)/bucket.o
`,
  "bucket.c": `unsigned bucket(const char *key, unsigned buckets) {
  int hash = 7;
  while (*key) hash = hash * 31 + *key++; /* a long key overflows it, which C leaves undefined */
  return (unsigned)hash % buckets;
}
`,
  "check.c": `unsigned bucket(const char *key, unsigned buckets);
int main(void) { return bucket("a", 16) > 15 || bucket("a key that is rather long", 16) > 15; }
`,
  "check.py": `import os, sys, tally
got = tally.count("to be or not to be".split())
if got != {"to": 2, "be": 2, "or": 1, "not": 1}:
    sys.exit(f"tally: got {got}")
print(f"Python: optimize={sys.flags.optimize} TZ={os.environ.get('TZ', '')} checked")
`,
};

const CACHE = "matrix-build-cache";

/** Stands for dependencies that are slow to fetch or to build. */
const DEPENDENCY = "def count(words):\n    return {word: words.count(word) for word in words}\n";

const VARIANTS: Readonly<Record<string, Record<string, string>>> = {
  plain: {},
  "gcc -O0": { VARIANT: "O0", CFLAGS: "-O0" },
  "gcc -O2": { VARIANT: "O2", CFLAGS: "-O2" },
  "gcc -std=c11": { VARIANT: "c11", CFLAGS: "-std=c11 -pedantic -Wall -Wextra -Werror" },
  "gcc sanitized": { VARIANT: "ubsan", CFLAGS: "-g -fsanitize=undefined -fno-sanitize-recover=all" },
  "python -O": { PYTHON: "python3 -O" },
  "python -W error": { PYTHON: "python3 -W error" },
  "TZ=Asia/Tokyo": { TZ: "Asia/Tokyo" },
};

export interface Cell {
  readonly variant: string;
  readonly ok: boolean;
  readonly exitCode: number | null;
  /** The last lines of its log. */
  readonly tail: string;
  readonly commit: string;
  /** How often the project was installed in the life of this machine, its snapshot's included. */
  readonly installs: number;
}

async function install(cache: Volume): Promise<Snapshot> {
  await using base = await Sandbox.create({ template: "code-interpreter" });
  const done = async (cmd: string): Promise<void> => {
    const { exitCode, stderr } = await base.exec(cmd, { timeoutSeconds: 60 });
    if (exitCode !== 0) throw new Error(`${cmd}: ${stderr}`);
  };
  for (const [path, text] of Object.entries(SOURCES)) await base.files.write(`/origin/${path}`, text);
  const author = "-c user.name=ci -c user.email=ci@example.com";
  await done(`cd /origin && git init -q && git add . && git ${author} commit -qm 'Buckets and tallies'`);
  await base.attachVolume(cache, { mount: "/cache" });
  await base.files.write("/cache/python/tally.py", DEPENDENCY);
  await done("git clone -q /origin /app && make -C /app ci && echo installed >> /app/installs");
  await base.detachVolume(cache); // a sandbox that has a volume cannot be saved
  return await base.snapshot(); // awaited here: the base is closed when this function is left
}

type OnLog = (variant: string, bytes: Uint8Array) => void;

async function runCell(snapshot: Snapshot, variant: string, onLog: OnLog): Promise<Cell> {
  await using sb = await Sandbox.fromSnapshot(snapshot, { ttlSeconds: 300 });
  await sb.attachVolume(CACHE, { mount: "/cache", readOnly: true });
  const text = new TextDecoder(); // a character may be cut between two events
  let log = "";
  let exitCode: number | null = null;
  for await (const event of await sb.stream("make ci 2>&1", { cwd: "/app", env: VARIANTS[variant] ?? {} })) {
    if (event.kind === "exit") exitCode = event.exitCode;
    if (event.kind !== "stdout") continue;
    log += text.decode(event.bytes, { stream: true });
    onLog(variant, event.bytes);
  }
  const { stdout: facts } = await sb.exec("git rev-parse HEAD && wc -l < installs", { cwd: "/app" });
  const [commit = "", installs = ""] = facts.split("\n");
  return { variant, ok: exitCode === 0, exitCode, tail: log.slice(-400), commit, installs: Number(installs) };
}

export async function run(onLog: OnLog = () => {}): Promise<Cell[]> {
  const cache = await Volume.getOrCreate({ name: CACHE, sizeGb: 0.125 });
  const snapshot = await install(cache);
  try {
    return await Promise.all(Object.keys(VARIANTS).map((variant) => runCell(snapshot, variant, onLog)));
  } finally {
    await snapshot.remove();
    await cache.remove();
  }
}

if (import.meta.main) {
  const cells = await run((_, bytes) => process.stderr.write(bytes));
  for (const { variant, ok } of cells) console.log(ok ? "ok    " : "failed", variant);
}
