/**
 * A kernel as distributions ship it (bzImage) → the ELF inside (vmlinux), which a microVM starts at its PVH entry without
 * running the decompressor: under software emulation that is seconds. Layout: Linux Documentation/arch/x86/boot.rst, protocol ≥ 2.08.
 */
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { WarrenError } from "../../errors.ts";
import { unpackLz4Legacy } from "./lz4.ts";

const HEADER_MAGIC = 0x53726448; // "HdrS" at 0x202
const ELF_MAGIC = 0x464c457f;
const VMLINUX_BYTES_MAX = 512 * 1024 * 1024;

function bad(says: string): WarrenError {
  return new WarrenError(
    "template_invalid",
    `the kernel image cannot be used: ${says}; give another with WARREN_KERNEL`,
  );
}

function unpack(payload: Uint8Array, size: number): Uint8Array {
  const magic = new DataView(payload.buffer, payload.byteOffset).getUint32(0, true);
  if (magic === 0x184c2102) return unpackLz4Legacy(payload.subarray(0, payload.length - 4), size);
  if ((magic & 0xffff) === 0x8b1f) return gunzipSync(payload, { maxOutputLength: VMLINUX_BYTES_MAX });
  if (magic === 0xfd2fb528)
    return zstdDecompressSync(payload.subarray(0, payload.length - 4), { maxOutputLength: VMLINUX_BYTES_MAX });
  throw bad(
    `its payload is packed in a way Warren does not read (magic ${magic.toString(16)}; lz4, gzip and zstd are read)`,
  );
}

/**
 * The vmlinux of a bzImage; a file that is an ELF already comes back as it is.
 * @throws {WarrenError} `template_invalid` – not a kernel, damaged, or packed in an unknown way.
 */
export function vmlinuxOf(image: Uint8Array): Uint8Array {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  if (image.length < 0x250) throw bad("it is too short");
  if (view.getUint32(0, true) === ELF_MAGIC) return image;
  if (view.getUint32(0x202, true) !== HEADER_MAGIC) throw bad("it is neither a bzImage nor an ELF file");
  if (view.getUint16(0x206, true) < 0x208) throw bad("its boot protocol is older than 2.08");
  const setupSectors = view.getUint8(0x1f1) || 4;
  const start = (setupSectors + 1) * 512 + view.getUint32(0x248, true);
  const length = view.getUint32(0x24c, true);
  if (length < 8 || start + length > image.length) throw bad("its payload lies outside the file");
  const size = view.getUint32(start + length - 4, true);
  if (size > VMLINUX_BYTES_MAX) throw bad(`its payload claims ${size} bytes`);
  const elf = unpack(image.subarray(start, start + length), size);
  if (new DataView(elf.buffer, elf.byteOffset).getUint32(0, true) !== ELF_MAGIC)
    throw bad("its payload is not an ELF file");
  return elf;
}
