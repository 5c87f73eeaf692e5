/**
 * A guest in memory that speaks the guest protocol on real frames, so that everything above the driver is tested with the
 * code that talks to real guests. One per fake VMM; what it holds is lost with it.
 */
import type { Clock } from "../../base/clock.ts";
import type { Frame } from "../../guest/codec.ts";
import { ASK } from "../../guest/protocol.ts";
import type { Link } from "../driver.ts";
import { FakeFiles } from "./files.ts";
import { Inbox } from "./inbox.ts";
import { FakePort } from "./port.ts";
import { FakePorts } from "./ports.ts";
import type { FakeProcess } from "./process.ts";

/** What the guest does at a step instead of answering. */
export type GuestFault = "answer" | "silence" | "garbage" | "exit" | "refuse";
export type GuestStep = "hello" | "ping" | "identity" | "warm" | "exec" | "freeze" | "thaw";

export interface GuestHooks {
  /** Asked before each of these steps; may also be slow. */
  readonly at: (step: GuestStep) => GuestFault | Promise<GuestFault>;
  /** The guest powers itself off. */
  readonly exit: () => void;
}

const STEPS: Readonly<Record<number, GuestStep>> = {
  [ASK.HELLO]: "hello",
  [ASK.PING]: "ping",
  [ASK.IDENTITY]: "identity",
  [ASK.WARM]: "warm",
  [ASK.EXEC]: "exec",
  [ASK.FREEZE]: "freeze",
  [ASK.THAW]: "thaw",
};

export class FakeGuest {
  readonly clock: Clock;
  readonly files: FakeFiles;
  readonly ports = new FakePorts();
  readonly processes = new Map<number, FakeProcess>();
  /** The snapshot's name until an identity is set. */
  hostname = "localhost";
  bootNonce = new Uint8Array(16);
  /** Whether its file systems are. */
  frozen = false;
  /** What it does with every frame from now on, whatever its hooks say to answer. */
  fault: GuestFault = "answer";
  readonly #hooks: GuestHooks;
  readonly #ports = new Set<FakePort>();
  #running = Promise.withResolvers<void>();
  #nextProcess = 1;

  constructor(clock: Clock, hooks: GuestHooks) {
    this.clock = clock;
    this.files = new FakeFiles(clock);
    this.#hooks = hooks;
  }

  resume(): void {
    this.#running.resolve();
  }

  pause(): void {
    this.#running = Promise.withResolvers();
  }

  /** Power gone: every command stops. */
  stop(): void {
    this.#running.resolve();
    for (const port of this.#ports) port.hangUp();
    for (const process of this.processes.values()) process.kill(9);
  }

  nextProcess(): number {
    return this.#nextProcess++;
  }

  /** Serves one port until it hangs up. */
  async serve(link: Link): Promise<void> {
    const port = new FakePort(this, link);
    this.#ports.add(port);
    const inbox = new Inbox();
    try {
      for await (const chunk of link.bytes) {
        for (const frame of inbox.push(chunk)) await this.#take(frame, port, link);
      }
    } finally {
      this.#ports.delete(port);
      port.hangUp();
    }
  }

  async #take(frame: Frame, port: FakePort, link: Link): Promise<void> {
    await this.#running.promise;
    const step = STEPS[frame.type];
    const said = step === undefined ? "answer" : await this.#hooks.at(step);
    const fault = said === "answer" ? this.fault : said;
    if (fault === "exit") this.#hooks.exit();
    else if (fault === "garbage") await link.write(new Uint8Array(64).fill(0xa5));
    else if (fault === "refuse") port.refuse(frame.channel);
    else if (fault === "answer") port.handle(frame);
  }
}
