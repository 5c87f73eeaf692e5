/**
 * The rules of the house, over every file, in milliseconds: who may import whom, which door each foreign thing has, what a
 * file looks like. Each test prints its offenders as file:line.
 */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { allowedImport, crowded, DOORS, TEXT_RULES } from "./tidy/rules.ts";

const ROOT = join(import.meta.dir, "..");
const OWN = /^test\/tidy/; // the rules name what they forbid
const CODE = /\.(ts|tsx|c|h|py|sh)$/;

interface Source {
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
}

async function sources(): Promise<Source[]> {
  const all: Source[] = [];
  for (const folder of ["src", "ffi", "images", "test", "migrations"]) {
    if (!existsSync(join(ROOT, folder))) continue; // git keeps no empty folder
    for await (const found of new Bun.Glob("**/*").scan({ cwd: join(ROOT, folder), onlyFiles: true, dot: false })) {
      if (!/\.(ts|tsx|c|h|py|sh|md|sql|json)$/.test(found) || found.includes("node_modules/")) continue;
      const path = `${folder}/${found}`;
      const text = await Bun.file(join(ROOT, path)).text();
      all.push({ path, text, lines: text.split("\n") });
    }
  }
  return all.sort((a, b) => a.path.localeCompare(b.path));
}

const files = await sources();
const code = files.filter(({ path }) => CODE.test(path));
const typescript = files.filter(({ path }) => /\.tsx?$/.test(path));

/** Every module that a file names: static and dynamic imports and re-exports, types included. */
function imports({ path, text }: Source): { line: number; target: string }[] {
  const found: { line: number; target: string }[] = [];
  const pattern =
    /(?:^|[\s;}])(?:import|export)\b[^"'`;()]*?\bfrom\s*"([^"]+)"|^import\s*"([^"]+)"|\bimport\(\s*"([^"]+)"/gm;
  for (const match of text.matchAll(pattern)) {
    const spec = match[1] ?? match[2] ?? match[3] ?? "";
    const line = text.slice(0, match.index + match[0].length).split("\n").length;
    found.push({ line, target: spec.startsWith(".") ? normalize(join(dirname(path), spec)) : spec });
  }
  return found;
}

test("Layers: imports only go where the table lets them", () => {
  const offenders: string[] = [];
  for (const source of typescript.filter(({ path }) => !path.startsWith("test/"))) {
    for (const { line, target } of imports(source)) {
      if (/\.(c|h|json|py|html|css)$/.test(target)) continue;
      const refusal = allowedImport(source.path, target);
      if (refusal !== null) offenders.push(`${source.path}:${line} imports ${target}: ${refusal}`);
    }
  }
  expect(offenders).toEqual([]);
});

test("Layers: every import names a file that exists, with its extension", async () => {
  const known = new Set(files.map(({ path }) => path));
  const offenders: string[] = [];
  for (const source of typescript) {
    for (const { line, target } of imports(source)) {
      const inside = /^(src|ffi|images|test)\//.test(target);
      if (inside && !known.has(target) && !(await Bun.file(join(ROOT, target)).exists())) {
        offenders.push(`${source.path}:${line} ${target}`);
      }
    }
  }
  expect(offenders).toEqual([]);
});

test("Doors: each foreign thing is used in its own file only", () => {
  const offenders: string[] = [];
  for (const { path, lines } of typescript.filter(({ path }) => !path.startsWith("test/"))) {
    lines.forEach((line, i) => {
      const bare = withoutComment(line);
      for (const { what, pattern, allowed } of DOORS) {
        if (pattern.test(bare) && !allowed.test(path)) offenders.push(`${path}:${i + 1} ${what}: ${line.trim()}`);
      }
    });
  }
  expect(offenders).toEqual([]);
});

test("Files have at most 400 lines and open with a comment that says what they own", () => {
  const offenders: string[] = [];
  for (const { path, lines } of code) {
    if (lines.length > 400 + 1) offenders.push(`${path}:${lines.length} more than 400 lines`);
    const at = lines[0]?.startsWith("#!") === true ? 1 : 0;
    if (!/^(\/\*|\/\/|#|""")/.test(lines[at] ?? "")) offenders.push(`${path}:${at + 1} no opening comment`);
  }
  expect(offenders).toEqual([]);
});

test("Folders hold at most 15 files of code", () => {
  expect(crowded(code.map(({ path }) => path))).toEqual([]);
});

test("Names: kebab-case files, and no name that says nothing", () => {
  const banned = /(manager|service|controller|helper|util|common|misc)/i;
  const declared = /\b(?:class|interface|type|function|const|enum)\s+([A-Za-z_]\w*)/g;
  const cgroups = /^src\/host\/slots\/(cgroups|controllers)\.ts$/; // the kernel's own word for its resource controllers
  const offenders: string[] = [];
  for (const { path, text } of code.filter(({ path }) => !OWN.test(path) && !cgroups.test(path))) {
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (banned.test(path)) offenders.push(`${path}:1 banned file name`);
    if (/\.tsx?$/.test(name) && !/^[a-z0-9]+(-[a-z0-9]+)*(\.test|\.fuzz|\.d)?\.tsx?$/.test(name))
      offenders.push(`${path}:1 not kebab-case`);
    for (const match of text.matchAll(declared)) {
      if (banned.test(match[1] ?? "")) offenders.push(`${path}:${lineAt(text, match.index)} ${match[1]}`);
    }
  }
  expect(offenders).toEqual([]);
});

test("Text: nothing unfinished, unexplained, untyped, or about how this is made", () => {
  const offenders: string[] = [];
  for (const { path, lines } of files.filter(({ path }) => !OWN.test(path))) {
    lines.forEach((line, i) => {
      for (const { what, pattern, only, except } of TEXT_RULES) {
        if (only !== undefined && !only.test(path)) continue;
        if (except?.test(path) === true || !pattern.test(line)) continue;
        offenders.push(`${path}:${i + 1} ${what}: ${line.trim().slice(0, 100)}`);
      }
    });
  }
  expect(offenders).toEqual([]);
});

test("Failures: none is dropped without saying why", () => {
  const offenders: string[] = [];
  for (const { path, text, lines } of typescript.filter(({ path }) => !OWN.test(path))) {
    for (const match of text.matchAll(/catch\s*(\([^)]*\))?\s*\{\s*\}/g)) {
      offenders.push(`${path}:${lineAt(text, match.index)} empty catch`);
    }
    lines.forEach((line, i) => {
      if (!/\.catch\(\(\)\s*=>\s*(undefined|\{\s*\}|null|void 0)\)/.test(line)) return;
      const said = /\/\/ |\/\*/.test(line) || /^\s*(\/\/|\*)/.test(lines[i - 1] ?? "");
      if (!said) offenders.push(`${path}:${i + 1} dropped failure: ${line.trim()}`);
    });
  }
  expect(offenders).toEqual([]);
});

test("Tests: no sleeping, no focus, no skipping without a reason", () => {
  const offenders: string[] = [];
  for (const { path, lines } of typescript.filter(({ path }) => /\.test\.ts$/.test(path) && !OWN.test(path))) {
    lines.forEach((line, i) => {
      if (/\bBun\.sleep\(|\.only\(|\b(test|describe)\.skip\(|\bsetTimeout\(/.test(line))
        offenders.push(`${path}:${i + 1} ${line.trim()}`);
    });
  }
  expect(offenders).toEqual([]);
});

test("Closures: embedded use needs no web framework and no database, a client nothing of the runtime", () => {
  const byPath = new Map(typescript.map((source) => [source.path, source]));
  const closure = (root: string): Set<string> => {
    const seen = new Set<string>();
    const visit = (path: string): void => {
      if (seen.has(path)) return;
      seen.add(path);
      const source = byPath.get(path);
      if (source !== undefined) for (const { target } of imports(source)) visit(target);
    };
    visit(root);
    return seen;
  };
  const offenders: string[] = [];
  for (const target of closure("src/index.ts")) {
    if (/^(hono|drizzle|postgres|@electric-sql)/.test(target)) offenders.push(`src/index.ts reaches ${target}`);
  }
  for (const root of ["src/sandbox.ts", "src/client.ts"]) {
    for (const target of closure(root)) {
      if (/^(bun$|bun:|node:)|^src\/(engine|host|driver)\//.test(target)) offenders.push(`${root} reaches ${target}`);
    }
  }
  expect(offenders).toEqual([]);
});

test("Tidy sees a violation when there is one", () => {
  expect(allowedImport("src/engine/engine.ts", "src/driver/qemu/argv.ts")).not.toBeNull();
  expect(allowedImport("src/engine/engine.ts", "src/meter/fold.ts")).not.toBeNull();
  expect(allowedImport("src/contract/parse.ts", "src/engine/state.ts")).not.toBeNull();
  expect(allowedImport("src/driver/qemu/argv.ts", "src/driver/firecracker/api.ts")).not.toBeNull();
  expect(allowedImport("src/template/store.ts", "ffi/native.ts")).not.toBeNull();
  expect(allowedImport("src/engine/engine.ts", "src/driver/driver.ts")).toBeNull();
  const sixteen = Array.from({ length: 16 }, (_, i) => `src/engine/a${i}.ts`);
  expect(crowded(sixteen)).toEqual(["src/engine holds 16 files, more than 15"]);
  expect(crowded(sixteen.slice(1))).toEqual([]);
  const seen = imports({
    path: "src/a/b.ts",
    lines: [],
    text: 'import {\n  type X,\n} from "../c.ts";\nexport * from "d";\n',
  });
  expect(seen).toEqual([
    { line: 3, target: "src/c.ts" },
    { line: 4, target: "d" },
  ]);
  expect(relative(ROOT, import.meta.path)).toBe("test/tidy.test.ts");
  expect(files.length).toBeGreaterThan(50);
});

function lineAt(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}

/** Good enough for one line: what follows `//`, and lines inside a block comment. */
function withoutComment(line: string): string {
  if (/^\s*(\*|\/\*)/.test(line)) return "";
  return line.replace(/(^|\s)\/\/ .*$/, "");
}
