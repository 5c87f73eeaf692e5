/** A saved point once more, under another id: by links, as its files never change, but for the one that says who uses it. */
import { closeSync, constants, fsyncSync, linkSync, openSync } from "node:fs";
import { join } from "node:path";
import { reflink } from "../host/memory.ts";
import { copyWhole, syncFolder } from "./files.ts";
import { damaged, MANIFEST } from "./manifest.ts";
import { readManifest } from "./point.ts";
import { memoryFile, writeManifest } from "./write.ts";

/** Fills `to`, which is empty, with the point in `from`, as the template `name`. @throws {WarrenError} `snapshot_invalid` */
export async function copyPoint(from: string, to: string, id: string, name: string, shares: boolean): Promise<void> {
  const manifest = readManifest(from, id);
  if (manifest === null) throw damaged(id, `its ${MANIFEST} is missing`);
  const used = memoryFile(1);
  const names = manifest.memory.map((_, i) => memoryFile(i));
  for (const file of [...names, "state", "disk"]) {
    if (file !== used) linkSync(join(from, file), join(to, file));
  }
  await copyLayer(join(from, used), join(to, used), manifest.memoryMib * 2 ** 20, shares);
  const { digest: _, ...body } = manifest;
  writeManifest(to, { ...body, meta: { ...body.meta, id: name, template: name, name: null } });
  syncFolder(to);
}

async function copyLayer(from: string, to: string, sizeBytes: number, shares: boolean): Promise<void> {
  const source = openSync(from, constants.O_RDONLY);
  try {
    const fd = openSync(to, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      if (shares) reflink(source, fd);
      else await copyWhole(source, fd, sizeBytes);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  } finally {
    closeSync(source);
  }
}
