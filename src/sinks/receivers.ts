/** All kinds of receivers. */
import type { SinkInfo } from "../contract/routes/api/billing.ts";
import { lago } from "./lago.ts";
import { openmeter } from "./openmeter.ts";
import type { Receiver } from "./receiver.ts";
import { stripe } from "./stripe.ts";
import { webhook } from "./webhook.ts";

export const RECEIVERS: Readonly<Record<SinkInfo["kind"], Receiver>> = { webhook, openmeter, lago, stripe };
