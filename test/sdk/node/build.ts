/** Programs for Node out of what is here, and their runs. */
import { symlinkSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../../..");

export interface Program extends AsyncDisposable {
  readonly path: string;
}

/** A folder with the packages that what is in it asks for. */
export async function folder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "warren-node-"));
  symlinkSync(join(ROOT, "node_modules"), join(path, "node_modules"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** A test program as one file, with Node's test runner in the place of Bun's. */
export async function bundled(source: string): Promise<Program> {
  const { path, [Symbol.asyncDispose]: dispose } = await folder();
  const result = await Bun.build({
    entrypoints: [join(import.meta.dir, source)],
    target: "node",
    outdir: path,
    naming: "[name].mjs",
    external: ["undici"],
    plugins: [
      {
        name: "node's own test runner",
        setup(build) {
          build.onResolve({ filter: /^bun:test$/ }, () => ({ path: join(import.meta.dir, "bun-test.ts") }));
        },
      },
    ],
  });
  if (!result.success) throw new Error(result.logs.join("\n"));
  return { path: join(path, source.replace(/\.ts$/, ".mjs")), [Symbol.asyncDispose]: dispose };
}

/** The script of package.json that makes what is published, into `folder` instead. */
export async function published(into: string): Promise<void> {
  const { scripts } = (await Bun.file(join(ROOT, "package.json")).json()) as { scripts: Record<string, string> };
  const script = scripts["build:client"]?.replaceAll("dist/", `${into}/dist/`) ?? "";
  const path = `${join(ROOT, "node_modules/.bin")}:${process.env["PATH"] ?? ""}`;
  const { exitCode, output } = await run(["sh", "-c", script], { cwd: ROOT, path });
  if (exitCode !== 0) throw new Error(output);
}

export async function run(
  argv: string[],
  { cwd, path }: { readonly cwd?: string; readonly path?: string } = {},
): Promise<{ readonly exitCode: number; readonly output: string }> {
  const env = { PATH: path ?? process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "/" };
  const child = Bun.spawn(argv, { ...(cwd === undefined ? {} : { cwd }), env, stdout: "pipe", stderr: "pipe" });
  const [output, errors] = await Promise.all([child.stdout, child.stderr].map((out) => new Response(out).text()));
  return { exitCode: await child.exited, output: `${output}${errors}` };
}
