/** Machines that have ended without anybody's having noticed it yet: what is asked for meanwhile is not what ended them. */
import type { Clock } from "../../base/clock.ts";
import type { Host } from "../../host/host.ts";
import { LIMITS } from "../../limits.ts";
import type { Live } from "../live.ts";

export interface EndsParts {
  readonly host: Pick<Host, "lives">;
  readonly clock: Clock;
}

/** When the end of its machine is noticed, if it has ended already: that is earlier than what is asked for now. Else null. */
export function endSeen({ body }: Live, { host, clock }: EndsParts): Promise<void> | null {
  return body === null || host.lives(body.vmm.ref) ? null : soon(body.vmm.exited, clock);
}

/** Resolves with the promise, or after {@link LIMITS.lostGraceMs}. */
export async function soon(promise: Promise<unknown>, clock: Clock): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const cancel = clock.after(LIMITS.lostGraceMs, resolve);
  await Promise.race([promise, late]);
  cancel();
}
