/** What may end a running sandbox without being asked: its VMM exits, or its agent is lost. Both come back as events. */
import type { Log } from "../base/log.ts";
import type { VmExit } from "../driver/driver.ts";
import type { WarrenError } from "../errors.ts";
import { type AwakeClone, describeExit } from "./create/clone.ts";
import { type EndsParts, endSeen, soon } from "./life/ends.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Live } from "./live.ts";

interface WatchParts extends EndsParts {
  readonly log: Log;
}

/**
 * Watches until the sandbox ends; of one that was released only the end of its machine still counts. Where the kernel has no word
 * on when a machine ended, it is told as of the last move: whoever has a later proof of its life knows better.
 */
export function watch(live: Live, body: AwakeClone, lifecycle: Lifecycle, { host, clock, log }: WatchParts): void {
  void body.vmm.exited.then((exit) => {
    if (live.body !== body) return; // it hibernates, or has another machine since
    if (live.info.state === "running") log.info("a sandbox ended by itself", { id: live.id, ...exit });
    const [event, reason] = endOf(live, exit);
    // A deadline ends what has lived until then.
    const provenMs = exit.reason === "deadline" ? null : live.movedMs;
    void lifecycle.post(live, event, reason, exit.end?.atMs ?? provenMs);
  });
  void body.agent.lost.then(async (error) => {
    if (live.released || live.body !== body || live.info.state !== "running") return;
    // A hang-up usually is the VMM's end seen from another side, and that side knows less.
    if (error.code === "sandbox_lost") await soon(body.vmm.exited, clock);
    else await endSeen(live, { host, clock });
    if (!live.released)
      void lifecycle.post(live, "lost", lossOf(error), host.lives(body.vmm.ref) ? null : live.movedMs);
  });
}

function endOf(live: Live, exit: VmExit): readonly ["expire" | "close" | "exited", string] {
  if (exit.reason === "deadline") return ["expire", `its time to live of ${live.spec.ttlSeconds} s ran out`];
  // Another process of the home may close a detached sandbox, and does it by killing it.
  if (exit.reason === "killed" && live.spec.detached) return ["close", "closed by another process"];
  return ["exited", describeExit(exit)];
}

function lossOf(error: WarrenError): string {
  return error.code === "sandbox_lost" ? "its agent hung up" : error.message;
}
