/** The only door to randomness: ids, names and the entropy that clones are reseeded with. */
import { customAlphabet } from "nanoid";

// No look-alikes and no upper case: an id is also a hostname, a directory name and something people read out.
const short = customAlphabet("23456789abcdefghjkmnpqrstuvwxyz", 16);

/** `sb_` and 16 characters of 31 symbols (79 bits): unique without coordination, unguessable enough not to be found by trying. */
export function sandboxId(): string {
  return `sb_${short()}`;
}

/** `snap_` and 16 such characters. */
export function snapshotId(): string {
  return `snap_${short()}`;
}

/** A name for a temporary file or a lease; 79 bits. */
export function nonce(): string {
  return short();
}

/** `length` bytes from the host kernel's generator. */
export function randomBytes(length: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(new ArrayBuffer(length)));
}

/** A random (version 4) UUID. */
export function uuid(): string {
  return crypto.randomUUID();
}
