/**
 * Every bound in one place, each with its reason; relations between them are asserted when the module loads.
 * A wait without a deadline from here, or a buffer without a bound from here, is a defect.
 */
import { assert } from "./base/assert.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

export const LIMITS = {
  /** Payload bytes of one guest frame: large enough that framing costs < 1 %, small enough to allocate blindly. */
  frameBytes: 64 * KIB,
  /** Bytes that may be under way on one stream before the reader grants more: 4 frames hide one round trip. */
  streamWindowBytes: 256 * KIB,
  /** How long a process waits for one of a sandbox's ports while others use them all, and how often it looks. */
  portWaitMs: 10_000,
  portRetryMs: 50,
  /** Channels open at once on one guest port. */
  channels: 4096,
  /** Virtio-serial ports of a guest, baked in: one per host process attached at the same time. */
  agentPorts: 4,
  /** Default and largest cap on what is kept of one output stream; the rest is counted, dropped and flagged. */
  outputBytes: 16 * MIB,
  outputBytesMax: 1024 * MIB,
  /** Output kept for a late `attach` to a background process. */
  ringBytes: 256 * KIB,
  /** Background processes remembered per sandbox, finished ones included. */
  processes: 1024,

  /** `argv` + `env` of one exec have to fit in one frame. */
  execArgumentBytes: 48 * KIB,
  /** A file up to this size travels in the request that names it. */
  inlineFileBytes: 48 * KIB,
  pathBytes: 4096,
  /** Entries of one listing: 100 MiB of host memory at worst, for a guest that makes up names. */
  directoryEntries: 100_000,

  /** Source of one cell of a code context. */
  cellCodeChars: 1 * MIB,
  /** One line of a context's answers: a piece of 12 Ki characters, each escaped as six bytes at worst, or a bounded traceback. */
  contextLineBytes: 256 * KIB,
  /** All that one cell says: 4 MiB of output and 32 Mi characters of what it shows, escaped, with their lines. */
  cellBytes: 256 * MIB,
  /** Read of a cell before the context is told, which waits with more than 96 KiB unread. */
  cellTookBytes: 24 * KIB,
  /** An interrupted cell ends within the guest's own 2 s, or the context does; else the host ends it after this long. */
  cellGraceMs: 5_000,
  /** A context says how it is at once, unless a cell keeps its interpreter to itself. */
  contextAskMs: 3_000,

  cpuMax: 32,
  memoryMibMin: 128,
  memoryMibMax: 64 * KIB,
  memoryMibDefault: 512,
  /** VMM memory beside the guest's: 20 MiB measured, TCG's translation buffer (64 MiB) and a reserve. */
  vmmOverheadMib: 160,
  /** vCPUs promised per host core: items mostly wait, and the host's scheduler shares fairly. */
  vcpusPerCore: 16,
  /** Entries of an egress allowlist, and characters of one: a name of 253 and a range of ports. */
  egressEntries: 256,
  egressEntryChars: 270,
  egressSecrets: 32,
  /** Connections that a sandbox may have open and begin by default: more than a browser or a package manager uses. */
  egressConnections: 1024,
  egressConnectionsMax: 16_384,
  egressNewPerSecond: 200,
  /** Addresses of names that are open at one time, of each family. */
  egressAddresses: 1024,
  /** Rows of a sandbox's network log that are kept. */
  egressLogRows: 2000,
  /** Creates waiting for room, in order, before `queue_full`. */
  createQueue: 10_000,
  /** Rows of the storage log that are kept in memory. */
  storedRows: 20_000,
  /** Children of one fork. More come from forking again. */
  forkChildren: 16,
  /** Files of memory under one guest before all but the lowest are merged: each is a descriptor of every VMM that stands on it. */
  layerDepth: 8,
  /** A create waits this long for room before `create_timeout`: a full queue on a slow host drains within the hour. */
  createWaitMs: 3_600_000,
  /** Restores under way at once per host core. They are bound by the CPU: with 4, a burst of 200 took as long, and each create 2.5 times. */
  bootsPerCore: 2,
  /** Host memory never promised to clones. */
  hostReserveMib: 512,
  /** How old the measured room may be when a create is judged against it, and how soon a blocked one looks again. */
  roomSampleMs: 100,
  roomRetryMs: 250,
  /** Percent of 10 s in which some task of the host stood waiting for memory; above it nothing is admitted. */
  memoryPressureMax: 20,
  /** Sandboxes remembered after their end, so that closing and reading them again is no error. */
  endedSandboxes: 1000,

  /** A sandbox that is to end or sleep when idle, with nobody having said after how long: an hour's quarter. */
  idleSecondsDefault: 900,
  /** What a guest is given to say what it uses. */
  metricsSeconds: 5,
  ttlSecondsMax: 30 * 24 * 3600,
  timeoutSecondsMax: 24 * 3600,
  execTimeoutSeconds: 300,
  metadataEntries: 64,
  metadataBytes: 1024,

  /** A VMM has to greet on its control socket: 20 ms measured idle; a loaded host is far slower. */
  vmmStartMs: 30_000,
  /** Loading device state: 3 ms measured. */
  vmmLoadMs: 30_000,
  /** One QMP command's answer. */
  qmpCommandMs: 20_000,
  /** Writing out what a guest changed: 0.6 ms per MiB measured; 64 GiB take 40 s. */
  captureMs: 60_000,
  /** One line from QEMU's monitor; its longest real answer is under 100 KiB. */
  qmpLineBytes: 1 * MIB,
  /** A restored guest's agent has to answer: 43 ms measured idle under TCG. */
  guestHelloMs: 60_000,
  /** An agent that has not answered by then may have lost its place in the stream: it is greeted again, behind padding. */
  guestResyncMs: 5_000,
  /** Identity (reseed, clock, hostname) confirmed: under 5 ms of guest work. */
  guestIdentityMs: 60_000,
  /** A request that involves no user code. */
  guestRequestMs: 60_000,
  /** File systems written out and frozen, or thawed: their last writes in a guest that writes hard. */
  guestFreezeMs: 20_000,
  /** Beyond an exec's own timeout, before the host gives the guest up as unresponsive. */
  guestGraceMs: 15_000,
  /** Cold boot under TCG: 1.4 s measured idle, plus warming a data stack (about 20 s). */
  bakeBootMs: 120_000,
  bakeWarmMs: 600_000,
  /** A KVM host boots the probe in under a second; an emulated /dev/kvm hangs. */
  kvmProbeMs: 8_000,
  /** A guest port hangs up shortly before its VMM is seen to end; the VMM's own reason is the better one. */
  lostGraceMs: 2_000,
  /** VMM processes are SIGKILLed; the kernel needs this long at worst to reap a namespace. */
  killMs: 10_000,
  /** Kept of a VMM's stderr, its end; and how much of it is read per 100 ms, so that a chatty VMM costs little CPU. */
  vmmStderrBytes: 8 * KIB,
  vmmStderrReadBytes: 64 * KIB,
  /** Between two looks whether a VMM that another process made has ended: its pidfd cannot wake Bun's event loop. */
  adoptedPollMs: 250,
  /** Another process keeps detached sandboxes' names: it starts in 0.2 s measured on an idle host, and answers what it is asked. */
  keeperStartMs: 10_000,
  keeperAnswerMs: 20_000,
  /** Between two tries to reach one that starts. */
  keeperRetryMs: 20,
  /** How often it looks which sandboxes have ended, and how long it stays without any. */
  keeperLookMs: 2_000,
  keeperIdleMs: 10_000,
  /** A request to it: a full allowlist and 32 secrets of 8 KiB, escaped at worst; its answer: a full network log. */
  keeperRequestBytes: 2 * MIB,
  keeperAnswerBytes: 8 * MIB,
  /** gcc on a few small C files: 0.3 s measured. */
  compileMs: 120_000,

  /** Prepared VMM processes kept per hot template, and how long an unused one stays. */
  preparedPerTemplate: 2,
  preparedIdleMs: 20_000,
  readyMax: 64,
  /** A detached clone of the pool ends by itself so long after its maker was last seen, which says so at half that time. */
  pooledLifeMs: 600_000,
  /** Private memory of a prepared VMM process: 16 MiB measured. */
  preparedMib: 24,

  /** One line of an items file; longer ones are reported and skipped without being held. */
  batchLineBytes: 64 * MIB,
  batchIdChars: 256,
  batchItemFiles: 1000,
  batchOutputPaths: 100,
  /** Kept of each output stream of an item unless asked otherwise: rows are read as lines. */
  batchOutputBytes: 1 * MIB,
  /** Artifacts of one item: a listing of a few thousand and a data file or two, not a disk. */
  artifacts: 1000,
  artifactBytes: 64 * MIB,
  /** Reading all artifacts of one item, or writing all its files, takes at most this long. */
  batchTransferMs: 180_000,
  batchTimeoutSeconds: 60,
  /** A sandbox of a batch destroys itself this long after all its items' timeouts: create, transfers and a busy host. */
  batchTtlSlackSeconds: 300,
  batchConcurrencyMax: 1000,
  batchChunkMax: 1000,
  batchRetryMax: 10,
  /** Creates that failed one after another: the host is at fault, and every further item would only say so too. */
  batchCreateFailures: 20,
  /** Rows finished out of order that are held until their turn, per lane. */
  batchHeldPerLane: 16,
  /** What a power failure may cost of a batch. */
  journalSyncMs: 1_000,
  /** Longest silence of a command that is working. */
  progressMs: 2_000,

  /** Volumes of one account, and at once in one sandbox: the drives that every snapshot was baked with. */
  volumes: 1000,
  volumesPerSandbox: 4,
  /** The smallest with room for a journal; the largest is what a data image may hold in all. */
  volumeMbMin: 16,
  volumeMbMax: 64 * KIB,
  /** mke2fs on a sparse file. */
  volumeFormatMs: 120_000,
  /** Mounting replays a journal, unmounting writes out all that is dirty; both emulated, on a busy host. */
  mountSeconds: 120,
  /** A sandbox that is closed may write out what is dirty in its volumes for so long; a hostile one delays its end by no more. */
  volumeFlushMs: 20_000,

  /** Free bytes below which the data image grows, and below which no clone is made. */
  dataLowBytes: 2048 * MIB,
  diskReserveBytes: 256 * MIB,
  /** Left free on the host's file system when an image is made or grown: the image must never be what fills it. */
  hostDiskReserveBytes: 1024 * MIB,
  /** A new image is sparse: half of what is free, within these. XFS wants 300 MiB at least. */
  imageBytesMin: 1024 * MIB,
  imageBytesMax: 64 * 1024 * MIB,
  /** Another process may be making the image: mkfs and mount take 1 s measured. */
  dataLockMs: 120_000,
  /** Tasks of one jail beside its vCPUs: QEMU's worker threads (64 at most) and a reserve. */
  vmmTasks: 128,

  /** Unprivileged uids for VMMs: far above any that a distribution or LDAP hands out, below 2^31. */
  slotUidBase: 1_879_048_192,
  slots: 16_384,
  /** Networks built ahead while sandboxes are made, 0.5 MiB each; and how many used ones are kept beside them. */
  networkReserve: 2,
  networkKept: 8,
  /** Nobody asks for a network for so long: time to build or clean one, 3 ms in which nothing else runs. Creates are over then. */
  networkIdleMs: 500,
  /** Without a sandbox for so long, a process lets go of all of them. */
  networkUnusedMs: 1_000,
  /** Moves that wait for a server's database, 300 bytes each; creates need it too, so that only what lives adds to them. */
  writeBehindRows: 200_000,
  /** Rows of one statement, and how long a row waits for others. */
  writeBehindBatch: 500,
  writeBehindMs: 20,
  /** The same when nobody waits for its place: beside the first call in a new sandbox, on two cores, writing takes 10 ms of it. */
  writeBehindCalmMs: 150,
  /** Between tries while the database is away: the first, and the longest. */
  writeBehindRetryMs: 250,
  writeBehindRetryMsMax: 5_000,
  /** Requests that are under way when a server is told to end have so long; then what waits for its database. */
  drainRequestsMs: 25_000,
  drainRowsMs: 10_000,
  /** Between two looks whether the database answers, and at what is older than the configuration wants kept. */
  storeLookMs: 5_000,
  /** Between two looks at sandboxes of an earlier server: nobody tells when they end. */
  inheritedLookMs: 5_000,
  /** A template that could not be baked is tried again after so long. */
  bakeRetryMs: 30_000,
  retentionMs: 3_600_000,

  /** Between two settlements of the books by one server. */
  settleMs: 60_000,
  /** Between two proofs of life, and two looks at whose credit is used up: what may be overdrawn is what runs in that time. */
  heartbeatMs: 5_000,
  /** Hibernations for want of credit at one time: each writes memory and disk out, as fast as the disk does. */
  creditHibernations: 4,
  /** Between two looks for usage that sinks have not got; and queued at a time for each of them. */
  outboxMs: 5_000,
  outboxEvents: 5_000,
  /** Claimed at a time of one sink. */
  sinkEvents: 500,
  /** One request to a sink: resolve, connect, send, the answer. */
  sinkAnswerMs: 10_000,
  /** Longer than what is claimed takes to be sent: nobody else sends it in the meantime. */
  sinkLeaseMs: 60_000,

  /** A client waits this long for an answer, or for a stream to begin: no less than a create waits for its turn. */
  clientAnswerMs: 3_660_000,
  /** A stream of events without even a comment for so long is dead: four of the server's are missing. */
  clientSilenceMs: 60_000,
  /** What a client does again by itself: tries in all, the wait before the second, the longest that a server may ask for. */
  clientTries: 4,
  clientRetryMs: 200,
  clientRetryMsMax: 30_000,
  /** Where a request cannot be streamed, as in browsers, its body is collected first. */
  clientUploadBytes: 64 * MIB,
  /** Of one frame of a WebSocket. */
  clientFrameBytes: 64 * KIB,

  /** Halves of packets that wait in the kernel for their other half are gone after 60 s (IPv6; IPv4: 30 s). */
  networkRestMs: 60_000,
  /** How old the last look at this host's rules and ways out may be when a network is lent. */
  networkLookMs: 5_000,
  /** Namespaces whose switches are set through one mount of procfs, before another one. */
  namespacesPerProc: 32,
} as const;

assert(LIMITS.execArgumentBytes < LIMITS.frameBytes, "exec arguments fit one frame");
assert(LIMITS.inlineFileBytes < LIMITS.frameBytes, "an inline file fits one frame");
assert(LIMITS.streamWindowBytes >= 2 * LIMITS.frameBytes, "a window holds at least two frames");
assert(LIMITS.outputBytes <= LIMITS.outputBytesMax, "the default output cap is allowed");
assert(LIMITS.memoryMibMin <= LIMITS.memoryMibDefault, "the default memory is allowed");
assert(LIMITS.batchOutputBytes <= LIMITS.outputBytesMax, "the batch's output cap is allowed");
assert(LIMITS.artifactBytes >= LIMITS.batchOutputBytes, "an artifact may be as large as a stream");
assert(LIMITS.diskReserveBytes < LIMITS.dataLowBytes, "an image grows before clones are refused");
assert(LIMITS.networkIdleMs < LIMITS.networkUnusedMs, "networks are built before they are let go");
assert(LIMITS.networkReserve <= LIMITS.networkKept, "networks that are ready fit among those that are kept");
assert(LIMITS.clientAnswerMs > LIMITS.createWaitMs, "a client waits longer than a create does for room");
assert(LIMITS.slotUidBase + 2 * LIMITS.slots < 2 ** 31, "slot uids stay positive in signed tools");
assert(3 * LIMITS.sinkAnswerMs < LIMITS.sinkLeaseMs, "what is sent to a sink ends before another server may send it");
