/** The files of the embedded database as part of a binary, which has no packages to find them in. Loaded there alone. */

import type { PGliteOptions } from "@electric-sql/pglite";
import initdb from "../../../node_modules/@electric-sql/pglite/dist/initdb.wasm" with { type: "file" };
import data from "../../../node_modules/@electric-sql/pglite/dist/pglite.data" with { type: "file" };
import pglite from "../../../node_modules/@electric-sql/pglite/dist/pglite.wasm" with { type: "file" };

const compile = async (path: string) => WebAssembly.compile(await Bun.file(path).arrayBuffer());

export async function embedded(): Promise<Pick<PGliteOptions, "fsBundle" | "initdbWasmModule" | "pgliteWasmModule">> {
  return {
    fsBundle: new Blob([await Bun.file(data).arrayBuffer()]),
    initdbWasmModule: await compile(initdb),
    pgliteWasmModule: await compile(pglite),
  };
}
