/** What may end a running sandbox without being asked: its VMM exits, or its agent is lost. Both come back as events. */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { VmExit } from "../driver/driver.ts";
import type { WarrenError } from "../errors.ts";
import type { Host } from "../host/host.ts";
import { LIMITS } from "../limits.ts";
import { type AwakeClone, describeExit } from "./create/clone.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Live } from "./live.ts";

interface WatchParts {
  readonly clock: Clock;
  readonly log: Log;
}

/** Watches until the sandbox ends; of one that was released only the end of its machine still counts. */
export function watch(live: Live, body: AwakeClone, lifecycle: Lifecycle, { clock, log }: WatchParts): void {
  void body.vmm.exited.then((exit) => {
    if (live.body !== body) return; // it hibernates, or has another machine since
    if (live.info.state === "running") log.info("a sandbox ended by itself", { id: live.id, ...exit });
    const [event, reason] = endOf(live, exit);
    void lifecycle.post(live, event, reason, exit.end?.atMs ?? null);
  });
  void body.agent.lost.then(async (error) => {
    if (live.released || live.body !== body || live.info.state !== "running") return;
    // A hang-up usually is the VMM's end seen from another side, and that side knows less.
    if (error.code === "sandbox_lost") await soon(body.vmm.exited, clock);
    if (!live.released) void lifecycle.post(live, "lost", lossOf(error));
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

/** When the end of its machine is noticed, if it has ended already: that is earlier than what is asked for now. Else null. */
export function endSeen(
  { body }: Live,
  { host, clock }: { readonly host: Pick<Host, "lives">; readonly clock: Clock },
): Promise<void> | null {
  return body === null || host.lives(body.vmm.ref) ? null : soon(body.vmm.exited, clock);
}

/** Resolves with the promise, or after {@link LIMITS.lostGraceMs}. */
export async function soon(promise: Promise<unknown>, clock: Clock): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const cancel = clock.after(LIMITS.lostGraceMs, resolve);
  await Promise.race([promise, late]);
  cancel();
}
