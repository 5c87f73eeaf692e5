/** A network in memory for fast tests: it keeps what it was told, and counts what a test says. */
import { WarrenError } from "../errors.ts";
import type { Admitted, EgressRules, Network, NetworkUsage, Tried } from "./network.ts";

export class FakeNetwork implements Network {
  readonly hostAddress: string;
  readonly hostAddress6: string | null = null;
  readonly ipv6 = false;
  /** Every set of rules so far, the last one in force. */
  readonly applied: EgressRules[] = [];
  /** Every call of `admit`. */
  readonly admitted: (readonly Admitted[])[] = [];
  /** What is told by the next `tried`, which empties it. */
  rows: Tried[] = [];
  lost = 0;
  /** What `usage` answers; null stands for a sandbox that is gone. */
  counted: NetworkUsage | null = { bytesOut: 0, bytesIn: 0, connections: 0, refused: 0 };
  /** Why every change fails from now on; null when none does. */
  failing: string | null = null;

  /** @param hostAddress where services for the sandbox listen: one that this process can bind */
  constructor(hostAddress = "127.0.0.1") {
    this.hostAddress = hostAddress;
  }

  apply(rules: EgressRules): void {
    this.#check();
    this.applied.push(rules);
  }

  admit(list: readonly Admitted[]): void {
    this.#check();
    this.admitted.push(list);
  }

  usage(): NetworkUsage | null {
    return this.counted;
  }

  tried(): { readonly rows: readonly Tried[]; readonly lost: number } {
    const { rows, lost } = this;
    this.rows = [];
    this.lost = 0;
    return { rows, lost };
  }

  #check(): void {
    if (this.failing !== null) throw new WarrenError("driver_failed", this.failing);
  }
}
