/** A memory image on disk as sealed memory: what VMMs open by its name, whatever their uid, and nobody can change. */
import { closeSync, constants, openSync } from "node:fs";
import { WarrenError } from "../errors.ts";
import type { Layer } from "../host/host.ts";
import { copySparse, createMemory, digestSparse, sealMemory } from "../host/memory.ts";

/** The memory of an open template, and the file that it was read from. */
export interface TemplateMemory {
  readonly layer: Layer;
  readonly xxh3: string;
  readonly path: string;
}

/** @throws {WarrenError} `template_invalid` – it is not what was written; `capacity_exhausted` */
export async function loadMemory(
  path: string,
  expected: { readonly bytes: number; readonly xxh3: string },
): Promise<number> {
  const from = openSync(path, constants.O_RDONLY);
  try {
    const memoryFd = createMemory("warren-template", expected.bytes);
    try {
      await copySparse(from, memoryFd, expected.bytes);
      if ((await digestSparse(memoryFd, expected.bytes)) !== expected.xxh3) {
        throw new WarrenError("template_invalid", "its memory image is not the one that was written");
      }
      sealMemory(memoryFd);
      return memoryFd;
    } catch (error) {
      closeSync(memoryFd);
      throw error;
    }
  } finally {
    closeSync(from);
  }
}
