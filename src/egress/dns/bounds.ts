/** Bounds of a sandbox's name server, each with its reason. */

export const DNS = {
  /** Answers over UDP: fits one packet on every link (DNS flag day 2020). Less when the client asks for less. */
  udpBytes: 1232,
  /** What a client without EDNS can take (RFC 1035, 4.2.1). */
  plainBytes: 512,
  /** A query is a name and a few options. */
  queryBytes: 4096,
  /** Records of one message that are read; real ones hold a few dozen. */
  records: 256,
  /** Pointers in one name. Names have at most 127 labels, so no honest one has more. */
  hops: 128,
  nameBytes: 255,
  /** Addresses of a name that are handed on; a program tries a few. */
  addresses: 16,
  /** Links of a chain of aliases, and questions asked along it. */
  aliases: 16,
  /** One name server has this long for one try, and all of them twice. */
  tryMs: 2_000,
  rounds: 2,
  /** As many as a stub resolver takes (resolv.conf(5), MAXNS). */
  servers: 3,
  /** All tries along a chain of aliases begin within this; clients ask again after 5 s. */
  lookupMs: 10_000,
  /** Packets in one try that are no answer to it, before it is given up. */
  strays: 32,
  /** How long an answer is good: a name may move within minutes, and a program connects within seconds. */
  ttlSecondsMin: 5,
  ttlSecondsMax: 300,
  /** An address stays open this much longer than its answer says, for what was under way. */
  graceSeconds: 2,
  /** That a name is not there, or has no address, is believed for so long. */
  negativeSeconds: 5,
  /** Addresses of a name that was answered before are open at least so long after a change of policy. */
  keptSeconds: 10,
  cacheRows: 512,
  /** Queries of one sandbox under way, and begun: more than a crawler's connections need. */
  underWay: 64,
  /** Sockets to name servers of all sandboxes of a process: each is a descriptor for as long as a slow server wants. */
  sockets: 2048,
  perSecond: 200,
  burst: 400,
  /** A client's TCP connections, how long one may be silent, and what it may leave unread. */
  connections: 16,
  idleMs: 10_000,
  unreadBytes: 64 * 1024,
  /** Pairs of a name and an address that it was answered with, remembered for the log and for changes of policy. */
  remembered: 2048,
  /** Names of one address that count for what is open of it: those that were answered last. */
  namesOfAddress: 16,
} as const;
