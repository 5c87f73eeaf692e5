/** The files of the embedded database as part of a binary, which has no packages to find them in. Loaded there alone. */

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { PGliteOptions } from "@electric-sql/pglite";
import gist from "../../../node_modules/@electric-sql/pglite/dist/btree_gist.tar.gz" with { type: "file" };
import initdb from "../../../node_modules/@electric-sql/pglite/dist/initdb.wasm" with { type: "file" };
import data from "../../../node_modules/@electric-sql/pglite/dist/pglite.data" with { type: "file" };
import pglite from "../../../node_modules/@electric-sql/pglite/dist/pglite.wasm" with { type: "file" };

const compile = async (path: string) => WebAssembly.compile(await Bun.file(path).arrayBuffer());

type Files = Pick<PGliteOptions, "extensions" | "fsBundle" | "initdbWasmModule" | "pgliteWasmModule">;

/** `folder`: where what can only be read from a disk is written, over what an earlier binary wrote. */
export async function embedded(folder: string): Promise<Files> {
  const bundle = join(folder, "btree_gist.tar.gz");
  await Bun.write(bundle, Bun.file(gist));
  // An extension finds its files beside its module, which in a binary has none.
  const btree_gist = { name: "btree_gist", setup: async () => ({ bundlePath: pathToFileURL(bundle) }) };
  return {
    extensions: { btree_gist },
    fsBundle: new Blob([await Bun.file(data).arrayBuffer()]),
    initdbWasmModule: await compile(initdb),
    pgliteWasmModule: await compile(pglite),
  };
}
