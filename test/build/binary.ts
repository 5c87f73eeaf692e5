/**
 * Warren as one file: `bun test/build/binary.ts [OUT]`. The program, the runtime, the embedded database and what templates are
 * built from are in it; the last is written out below WARREN_HOME when a template is first needed. It needs QEMU and the
 * other commands that `warren doctor` names, and no checkout, no Bun, no Node.
 */
import { readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import type { BunPlugin } from "bun";

const ROOT = join(import.meta.dir, "../..");
/** Folders that are read as files while Warren runs. */
const FOLDERS = ["images/agent", "images/python"];
/** Name of the module that knows where those are. */
const UNPACKED = "warren:unpacked";

/** Path → content, of every file that has to be there as one. */
function assets(): Record<string, string> {
  const paths = FOLDERS.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" }).map((name) => join(folder, name)),
  ).filter((path) => statSync(join(ROOT, path)).isFile());
  return Object.fromEntries(paths.sort().map((path) => [path, readFileSync(join(ROOT, path), "utf8")]));
}

/** The module's source: writes the files out once for each content, whole or not at all, and says where. */
function unpacked(files: Readonly<Record<string, string>>): string {
  const digest = new Bun.CryptoHasher("sha256").update(JSON.stringify(files)).digest("hex").slice(0, 16);
  return `
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { readConfig } from ${JSON.stringify(join(ROOT, "src/config.ts"))};
const files = ${JSON.stringify(files)};
export const root = join(readConfig().home, "program", ${JSON.stringify(digest)});
if (!existsSync(root) && process.getuid() === 0) {
  const partial = root + "." + process.pid;
  rmSync(partial, { recursive: true, force: true });
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(partial, path)), { recursive: true });
    writeFileSync(join(partial, path), text);
  }
  try {
    renameSync(partial, root);
  } catch (cause) {
    if (!existsSync(root)) throw cause; // another process was faster
    rmSync(partial, { recursive: true, force: true });
  }
}
`;
}

/** Modules that look for files beside themselves find them where they were unpacked; the command line itself has none. */
const plugin: BunPlugin = {
  name: "warren",
  setup(build) {
    build.onResolve({ filter: /^warren:unpacked$/ }, ({ path }) => ({ path, namespace: "warren" }));
    build.onLoad({ filter: /.*/, namespace: "warren" }, () => ({ contents: unpacked(assets()), loader: "js" }));
    build.onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => {
      const text = readFileSync(path, "utf8");
      if (!text.includes("import.meta.dir")) return undefined;
      const folder = relative(ROOT, join(path, ".."));
      const own = JSON.stringify(`/${folder}`);
      if (folder.startsWith("src/cli") || folder.startsWith("src/keeper")) {
        return { contents: text.replaceAll("import.meta.dir", own), loader: "ts" };
      }
      const contents = `import { root as unpackedRoot } from "${UNPACKED}";\n${text.replaceAll("import.meta.dir", `(unpackedRoot + ${own})`)}`;
      return { contents, loader: "ts" };
    });
  },
};

/** @returns bytes of the binary */
export async function buildBinary(outfile: string): Promise<number> {
  const partial = `${outfile}.${process.pid}`;
  const built = await Bun.build({
    entrypoints: [join(ROOT, "src/cli/main.ts"), join(ROOT, "src/db/pglite/worker.ts")],
    root: ROOT,
    target: "bun",
    minify: { whitespace: true, syntax: true, identifiers: false },
    sourcemap: "none",
    format: "esm",
    bytecode: true, // 9 MiB more, and it answers in a quarter of the time
    plugins: [plugin],
    compile: { outfile: partial, autoloadDotenv: false, autoloadBunfig: false },
  });
  if (!built.success) {
    rmSync(partial, { force: true });
    throw new AggregateError(built.logs, "the binary could not be built");
  }
  renameSync(partial, outfile);
  return statSync(outfile).size;
}

if (import.meta.main) {
  const out = process.argv[2] ?? "warren-binary";
  const bytes = await buildBinary(out);
  console.log(`${out}: ${(bytes / 2 ** 20).toFixed(1)} MiB`);
}
