/**
 * A door of this host that leads to a port of a sandbox: what comes in is spliced to a connection that stands already, and what the
 * sandbox answers is held to the bounds that an HTTP client needs.
 */
import { WarrenError } from "../../errors.ts";
import { type Doorway, openDoorway } from "./doorway.ts";
import { HeadGuard } from "./head-guard.ts";
import { dialPort, type PortTarget, pourInto } from "./splice.ts";

export interface Through {
  readonly door: Doorway;
  /** Why the connection to the sandbox broke; null while it has not. */
  readonly failure: () => unknown;
  /** Ends all of it. Twice is fine. */
  readonly end: () => void;
}

/** @throws {WarrenError} `wrong_state` – nothing listens there; as the contract's `dial` says */
export async function passThrough(
  target: PortTarget,
  kind: "unix" | "tcp",
  signal: AbortSignal | undefined,
): Promise<Through> {
  const over = new AbortController();
  const door = openDoorway(kind);
  const either = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]);
  let failure: unknown = null;
  let leave: () => unknown = () => undefined;
  const end = (): void => {
    over.abort(new WarrenError("cancelled", "the exchange is over"));
    door[Symbol.dispose]();
    leave();
  };
  const outgoing = (async function* () {
    yield* await door.entered;
  })();
  try {
    const pieces = (await dialPort(target, outgoing, either))[Symbol.asyncIterator]();
    // As long as nobody has come in nobody reads, and leaving is the only way to end the connection.
    leave = () => void Promise.try(async () => pieces.return?.()).catch(() => undefined); // it is over either way
    const guard = new HeadGuard(target.port);
    const pour = async (): Promise<void> => {
      const local = await door.entered;
      leave = () => local.terminate();
      void local.closed.then((how) => {
        if (how === "broken") end();
      });
      await pourInto(local, { [Symbol.asyncIterator]: () => pieces }, (piece) => guard.take(piece));
    };
    void pour().catch((cause: unknown) => {
      failure = cause;
      end();
    });
  } catch (cause) {
    end();
    throw cause;
  }
  return { door, failure: () => failure, end };
}
