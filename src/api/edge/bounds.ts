/** Bounds of what reaches out of the server or comes in from a guest here, each with its reason. */
import { assert } from "../../base/assert.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

export const BOUNDS = {
  /** Exchanges with the programs of one sandbox at one time: more than a browser with many tabs, far below the agent's channels. */
  exchangesPerSandbox: 256,
  /** A program may think so long before its answer begins; long polls end sooner. */
  answerMs: 300_000,
  /** A WebSocket's handshake involves no work of a user's. */
  handshakeMs: 30_000,
  /** The head of an answer with all that says "wait" before it, and its headers. */
  headBytes: 64 * KIB,
  headFields: 256,
  /** One message of a program's, whole in memory until it is passed on; browsers' own bound is far above. */
  messageBytes: 16 * MIB,
  /** What a client sent and its program has not read, before both are told that this is no use. */
  unreadBytes: 16 * MIB,
  /** Sent to a client and not taken by it, before no more is read of the program. */
  unsentBytes: 256 * KIB,
  /** Between one side's close and the other's. */
  closeMs: 5_000,

  /** Of all paths of one preview together: they travel in its URL, which browsers and proxies take up to 8 KiB of. */
  previewPathChars: 2048,
  previewSeconds: 3600,

  /** Kept of what one sandbox's commands printed, with all that it takes to keep it. */
  tapeBytes: 1 * MIB,
  /** The same of all sandboxes together; the one that was silent longest is forgotten first. */
  tapesBytes: 256 * MIB,
  /** Kept after a sandbox's end. */
  tapeKeepMs: 15 * 60_000,
  /** A longer line is told in pieces. */
  lineBytes: 64 * KIB,

  /** Events of a sandbox told when nobody says how many. */
  eventsTail: 100,
  /** Moves that wait for a reader of `events`: a sandbox makes a handful in its life. */
  eventsWaiting: 10_000,

  webhooksPerAccount: 32,
  /** One delivery: resolve, connect, send, the first line of the answer. */
  deliveryMs: 10_000,
  /** Read of an answer before it is no HTTP. */
  answerBytes: 4 * KIB,
  /** Read of what a receiver says of a batch of 100 events that it refuses. */
  refusalBytes: 64 * KIB,
  /** Sockets that wait cost little; of one webhook fewer, so that a receiver that is slow or silent holds up no other. */
  deliveriesAtOnce: 128,
  deliveriesPerWebhook: 8,
  /** Of one account fewer too: its webhooks together hold up nobody else's. */
  deliveriesPerAccount: 16,
  /** Claimed and not begun; an account that has more of them than its share gives way to others. */
  deliveriesHeld: 1000,
  deliveriesHeldPerAccount: 100,
  /** Longer than a delivery takes: nobody else sends it in the meantime. */
  deliveryLeaseMs: 60_000,
  /** How often another server's and late deliveries are looked for. */
  deliveryPollMs: 5_000,
  /** After this many tries, a day all in all, a delivery is given up. */
  deliveryTries: 10,
  /** Moves that wait while the store is away. */
  movesWaiting: 20_000,
  /** For so long an account that had no webhook is taken to have none; one made here is seen at once. */
  webhooklessMs: 5_000,

  /** Creates that `stats/boot` is made of. */
  bootSamples: 1000,
} as const;

assert(2 * BOUNDS.deliveryMs < BOUNDS.deliveryLeaseMs, "a delivery ends before another server may send it");
assert(BOUNDS.deliveriesPerAccount * 2 <= BOUNDS.deliveriesAtOnce, "no account takes all that are sent at once");
assert(BOUNDS.deliveriesHeldPerAccount * 2 <= BOUNDS.deliveriesHeld, "no account's share is all that is held");
assert(BOUNDS.lineBytes < BOUNDS.tapeBytes, "a line fits on its tape");
