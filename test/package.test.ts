/** What is published holds every file that its own source imports. */
import { expect, test } from "bun:test";
import { dirname, join, relative } from "node:path";
import packageJson from "../package.json" with { type: "json" };

/** Part of the compiled program alone, which is built in a checkout. */
const COMPILED = "src/db/pglite/embedded.ts";
const ROOT = join(import.meta.dir, "..");

test("Package has all that its source imports", async () => {
  const missing: string[] = [];
  for (const path of new Bun.Glob("{src,ffi,images}/**/*.ts").scanSync(ROOT)) {
    if (path === COMPILED) continue;
    const text = await Bun.file(join(ROOT, path)).text();
    for (const [, target = ""] of text.matchAll(/(?:from|import) "(\.{1,2}\/[^"]+)"/g)) {
      const wanted = relative(ROOT, join(ROOT, dirname(path), target));
      const [top = ""] = wanted.split("/");
      if (wanted !== "package.json" && !packageJson.files.includes(top)) missing.push(`${path}: ${wanted}`);
    }
  }
  expect(missing).toEqual([]);
});
