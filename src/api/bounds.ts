/** Bounds of the API alone, each with its reason. */
import { assert } from "../base/assert.ts";

const KIB = 1024;

export const BOUNDS = {
  /** Characters of a URL: a path of 4 KiB with every byte escaped, and room beside it. */
  urlChars: 16 * KIB,
  /** Headers of one request and their characters; the runtime has a bound of its own on bytes. */
  headers: 100,
  headerChars: 32 * KIB,
  requestIdChars: 128,
  /** Keys remembered between requests, those that are not known too. */
  keys: 10_000,
  keyTtlMs: 30_000,
  /** A key that is not known may be made in another server a moment later. */
  unknownKeyTtlMs: 5_000,
  /** When keys were last used, and the audit, are written this often; rows that wait are bounded. */
  behindMs: 1_000,
  behindRows: 10_000,
  behindBatch: 500,
  /** Buckets of the rate limit; one that is full again is forgotten. */
  buckets: 10_000,
  /** A stream's first event is waited for this long, so that a failure still has its own status. */
  firstEventMs: 500,
  /** A reader that takes nothing for so long is gone. */
  stallMs: 300_000,
  /** Bytes waiting in a WebSocket's send buffer from which on its source is not read any more: all of an account's have room for it. */
  socketBufferBytes: 256 * KIB,
  /** Bytes of one frame to us, and of all that waits to be passed into a sandbox: the runtime cannot be told to read no more. */
  socketFrameBytes: 1024 * KIB,
  socketInboxBytes: 16 * 1024 * KIB,
  /** WebSockets of one account: a fleet's worth of terminals, and few enough for the descriptors of a server. */
  socketsPerAccount: 256,
  /** Of all that waits in WebSockets: four full inboxes for one account, and for all what a small server can spare. */
  waitingBytesPerAccount: 64 * 1024 * KIB,
  waitingBytesPerServer: 256 * 1024 * KIB,
  /** What keeping one piece costs beside its bytes: its object, its buffer and its place in the queue. */
  waitingPieceBytes: 128,
  /** Idempotency keys remembered here, beside the store's. */
  idempotencyKeys: 10_000,
  idempotencyKeyChars: 255,
  /** Bytes of stdout and of stderr each in one JSON answer, whatever was asked for. */
  collectedBytes: 64 * 1024 * KIB,
  /** A list without a limit. */
  listRows: 10_000,
  /** Rows that are asked of the store at once where any number is told: some 300 KiB. */
  usagePageRows: 1_000,
} as const;

assert(BOUNDS.behindBatch <= BOUNDS.behindRows, "a batch is not more than what may wait");
assert(BOUNDS.socketFrameBytes <= BOUNDS.socketInboxBytes, "any frame fits into an empty inbox");
assert(BOUNDS.socketInboxBytes < BOUNDS.waitingBytesPerAccount, "one full inbox leaves room for others");
assert(BOUNDS.waitingBytesPerAccount < BOUNDS.waitingBytesPerServer, "one account leaves room for others");
