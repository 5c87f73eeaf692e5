/**
 * The rules of a slot that nobody has a policy for: nothing passes. They are the same in every slot, so their messages are made
 * once, which takes longer than all that the kernel does with them.
 */
import type { EgressRules } from "../network.ts";
import type { Answer } from "./answer.ts";
import { Netlink, type Written } from "./message.ts";
import { installRules } from "./nft/rules.ts";
import { resetTable } from "./nft/table.ts";
import type { SlotAddresses } from "./plan.ts";

/** Not even answers of the sandbox's own name server, of which there is none yet. */
export const NO_EGRESS: EgressRules = {
  mode: "none",
  ranges: [],
  exempt: [],
  limits: { bytesPerSecond: null, newConnectionsPerSecond: 1, connections: 1 },
  dnsPort: null,
  proxyPort: null,
  caught: "none",
};

/** Keeps what would be sent. */
class Recorder extends Netlink {
  readonly sends: Written[] = [];

  override flush(): void {
    this.sends.push(this.written());
    this.drop();
  }

  /** Of a table that was just made there is nothing to say. */
  override dump(): Answer[] {
    this.drop();
    return [];
  }
}

/** What `close` sends, call by call. */
export function closedMessages(at: SlotAddresses): readonly Written[] {
  const recorder = new Recorder(-1);
  resetTable(recorder, at);
  installRules(recorder, NO_EGRESS, at, 1);
  return recorder.sends;
}

let messages: readonly Written[] | null = null;

/** A new table in the place of any that is there, with these rules. @throws {NativeError} */
export function closeSlot(netfilter: Netlink, at: SlotAddresses): void {
  messages ??= closedMessages(at);
  for (const each of messages) netfilter.again(each).flush();
}
