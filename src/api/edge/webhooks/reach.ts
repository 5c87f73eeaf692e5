/** Whether a URL may be sent to, looked at when somebody asks for that: its form, its name, its addresses. */
import type { Clock } from "../../../base/clock.ts";
import { isWarrenError, WarrenError } from "../../../errors.ts";
import type { ApiSettings } from "../../parts.ts";
import { BOUNDS } from "../bounds.ts";
import { publicAddress, type Resolve, webhookUrl } from "./address.ts";
import { within } from "./within.ts";

export interface ReachParts {
  readonly clock: Clock;
  readonly settings: ApiSettings;
  readonly resolve: Resolve;
}

/** @throws {WarrenError} `invalid_request` – naming `url`: no URL to send to, a name that nobody knows, an address that is not public */
export async function reachableUrl(
  text: string,
  { clock, settings, resolve }: ReachParts,
  signal: AbortSignal,
): Promise<URL> {
  const url = webhookUrl(text);
  const look = (): Promise<string> => publicAddress(url, resolve, settings.webhooksToPrivate);
  await within(clock, BOUNDS.deliveryMs, signal, look).catch((cause: unknown) => {
    if (isWarrenError(cause)) throw cause;
    const says = "url: its name could not be resolved in time";
    throw new WarrenError("invalid_request", says, { details: { field: "url" }, cause });
  });
  return url;
}
