/**
 * A part in a home that one process plays at a time, in each space of pids and addresses: a name of the kernel's, which is
 * free again when its holder has ended.
 */
import { realpathSync } from "node:fs";
import { closeFd } from "../../../ffi/files.ts";
import { takeName } from "../../../ffi/sockets.ts";
import { thisSpace } from "../slots/process-name.ts";

/** Of a digest: as many bytes as no two homes of one host share, and as a name has room for. */
const DIGEST_CHARS = 32;

/**
 * Null while another process of this space plays it.
 * @param home an existing folder, by any of its names
 */
export function playOnly(part: string, home: string): Disposable | null {
  const digest = new Bun.CryptoHasher("sha256")
    .update(`${thisSpace()} ${realpathSync(home)}`)
    .digest("hex")
    .slice(0, DIGEST_CHARS);
  const fd = takeName(`warren-${part}-${digest}`);
  return fd === null ? null : { [Symbol.dispose]: () => closeFd(fd) };
}
