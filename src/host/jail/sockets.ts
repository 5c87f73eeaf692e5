/** Listening Unix sockets for VMMs: made by root outside, inherited by descriptor, so that the VMM needs no path. */
import { closeFd, openFd } from "../../../ffi/files.ts";
import { listenUnix, sendDescriptor } from "../../../ffi/sockets.ts";

/**
 * A listening socket `dir/name`; `dir` may be a path of any length. The caller closes it, and removes the name with `dir`.
 * Connections wait in the backlog until the VMM takes them, so a client may connect at once.
 * @throws {NativeError} `EADDRINUSE` – the name exists; `ENOENT` – no such directory
 */
export function listenIn(dir: string, name: string, backlog: number): number {
  const dirFd = openFd(dir, "directory");
  try {
    return listenUnix(dirFd, name, backlog);
  } finally {
    closeFd(dirFd);
  }
}

/**
 * Sends one request with a descriptor to the socket `dir/name`; the caller reads the answer from what is returned, and closes it.
 * @throws {NativeError} `ECONNREFUSED`, `ENOENT` – nobody listens there
 */
export function askWithDescriptor(dir: string, name: string, request: Uint8Array<ArrayBuffer>, fd: number): number {
  const dirFd = openFd(dir, "directory");
  try {
    return sendDescriptor(dirFd, name, request, fd);
  } finally {
    closeFd(dirFd);
  }
}
