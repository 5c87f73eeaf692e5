/** Listening sockets for a VMM to inherit, made before it starts: whoever connects early waits in the backlog instead of retrying. */
import { closeAll, openFd } from "../../ffi/files.ts";
import { listenUnix } from "../../ffi/sockets.ts";

/** Connections that may wait for one that is served: each port serves one at a time. */
const BACKLOG = 4;

export interface Listening extends Disposable {
  /** Descriptors in the order of the names. */
  readonly fds: readonly number[];
}

/** Listens on each name in `dir`, mode and owner being the directory's business. Disposing closes, it does not unlink. */
export function listenIn(dir: string, names: readonly string[]): Listening {
  const dirFd = openFd(dir, "directory");
  const fds: number[] = [];
  try {
    for (const name of names) fds.push(listenUnix(dirFd, name, BACKLOG));
    return { fds, [Symbol.dispose]: () => closeAll(fds) };
  } catch (error) {
    closeAll(fds);
    throw error;
  } finally {
    closeAll([dirFd]);
  }
}
