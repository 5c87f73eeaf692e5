/** What one sandbox may hold of this process through its proxy, and how long; each number with its reason. */

const KIB = 1024;

export const BOUNDS = {
  /** Connections of the guest at one time; more than a browser or package manager opens, each with one to the world at most. */
  connections: 256,
  /** A ClientHello: browsers send 2 KiB with post-quantum keys; session tickets make it longer. */
  helloBytes: 16 * KIB,
  /** The records that it comes in, with their headers, and how many. */
  helloWireBytes: 24 * KIB,
  helloRecords: 64,
  /** Head of a request or response, and its fields: Apache and nginx allow less. */
  headBytes: 64 * KIB,
  headFields: 128,
  /** A chunk's size line with extensions, and all trailers of a body. */
  chunkLineBytes: 256,
  trailerBytes: 8 * KIB,
  /** 1xx before the answer itself. */
  interimResponses: 8,
  /** From the first byte (for the first: from the connection) to the end of a ClientHello, TLS handshake or request head. */
  headMs: 10_000,
  /** Between two requests of a connection, and of an exchange whose guest has said that it will send no more. */
  idleMs: 60_000,
  /**
   * Without a byte either way inside an exchange or a tunnel. Not as short as between requests: models answer after minutes, and
   * an idle connection costs nobody but the sandbox itself, of whose 256 it is one.
   */
  exchangeIdleMs: 600_000,
  /** Asking for a name, and one attempt at a connection with its handshake. */
  dialMs: 10_000,
  /** Of a name, tried in order. */
  dialAddresses: 3,
  /** After a last answer, what the guest was still sending is read so far, so that no reset overtakes the answer. */
  lingerMs: 2_000,
  lingerBytes: 1024 * KIB,
} as const;
