/**
 * The guest protocol, version 1: what travels between the host and the agent (PID 1 of the guest) over each virtio-serial
 * port. The C half is `images/agent/link/frame.h`; `test/golden/frames.json` is decoded and encoded by both.
 *
 * A frame is a 12-byte header and a payload, little-endian:
 *
 *     u32 length     payload bytes, at most LIMITS.frameBytes (65536); more is a protocol error, before allocation
 *     u8  type       below
 *     u8  zero
 *     u16 zero
 *     u32 channel    0 for the connection itself; else chosen by the host, unique while open
 *
 * A structured payload is a sequence of fields `u8 tag, u32 length, bytes`; integers in fields are u64 little-endian, or
 * i64 where said. An unknown tag is skipped; a known one twice is an error, unless marked *.
 *
 * Host → guest                         answers on the same channel; the last is DONE, ERROR, EXIT, PONG or HELLO, exactly one
 *   HELLO     0x01 {VERSION}           HELLO {VERSION, NONCE (16 bytes, new at every boot), AGENT (text)}
 *   PING      0x02 any payload         PONG, same payload
 *   IDENTITY  0x03 {ENTROPY 64 bytes, WALL_NS, HOSTNAME, BOOT_ID (uuid text), MACHINE_ID (32 hex), RESEED (0 only for the control run)}
 *                                      DONE {WALL_NS as it then stands} or ERROR
 *   WARM      0x04 {ARG* (module)}     DONE or ERROR: starts the warm interpreter with these modules imported
 *   SYNC      0x05 {FLAGS?}            DONE: file systems synced, free pages returned (not with bit 0), and the warm interpreter's
 *                                      next child forked; ready for a pause
 *   FREEZE    0x06 {}                  DONE once every writable file system on a block device is synced and frozen (FIFREEZE): writers
 *                                      in the guest wait. ERROR: nothing is frozen; EALREADY while another FREEZE is not over
 *   THAW      0x07 {}                  DONE {FLAGS bit 0 = all stayed frozen from FREEZE's DONE to this THAW}; fine when nothing is
 *   EXEC      0x10 {ARG*, ENV* (K=V), CWD, USER, TIMEOUT_MS, OUTPUT_LIMIT, FLAGS, CODE, ROWS?, COLS?}
 *                                      STARTED {PROCESS, PID, FLAGS? bit 0 = in a terminal}, OUT/ERR…, EXIT {…}; in the background
 *                                      STARTED, DONE; or ERROR. With ROWS and COLS in a terminal of that size, see below
 *   DATA      0x11 raw                 on an EXEC channel: stdin; on a PUT channel: content; on a DIAL channel: what is sent to
 *                                      the peer. Needs credit; empty = end
 *   CREDIT    0x12 {BYTES}             grants the guest so many more bytes of OUT+ERR+CHUNK on the channel
 *   CANCEL    0x13 {}                  the last answer comes at once: EXEC: EXIT after SIGKILL to all it started, output not
 *                                      yet sent is dropped; PUT (nothing stays), GET, LIST, ATTACH, STDIN, WATCH, DIAL (reset): ERROR {ECANCELED};
 *                                      FREEZE: that too, and thaws, even after its DONE
 *   SIGNAL    0x14 {PROCESS, SIGNAL}   DONE or ERROR
 *   PROCESSES 0x15 {}                  CHUNK (records, see below)…, DONE
 *   ATTACH    0x16 {PROCESS}           STARTED, OUT/ERR/GAP {BYTES}…, EXIT; or ERROR. Background processes only; a reader
 *                                      slower than the ring sees GAPs, the process never waits for it
 *   STDIN     0x17 {PROCESS, CODE = bytes, FLAGS bit 0 = close}   DONE once in the pipe, or ERROR: stdin from any channel
 *   RESIZE    0x18 {PROCESS, ROWS, COLS}           DONE, or ERROR {ESRCH, ENOTTY, …}: its terminal's size, of which it is told (SIGWINCH)
 *   GET       0x20 {PATH, OFFSET?, LENGTH?}        CHUNK…, DONE {SIZE = bytes sent}; or ERROR. Regular files only
 *   PUT       0x21 {PATH, MODE?, CODE?}            with CODE: the whole content, DONE at once. Else CREDIT, DATA…, DONE {SIZE}
 *   STAT      0x22 {PATH}                          CHUNK (one record), DONE
 *   LIST      0x23 {PATH}                          CHUNK (records)…, DONE
 *   MKDIR     0x24 {PATH, MODE?}                   DONE or ERROR
 *   RENAME    0x25 {PATH, PATH2}                   DONE or ERROR
 *   CHMOD     0x26 {PATH, MODE}                    DONE or ERROR
 *   REMOVE    0x27 {PATH}                          DONE or ERROR; a file or an empty directory
 *   WATCH     0x28 {PATH, FLAGS? bit 0 = recursive}  STARTED, CHUNK (records)…, DONE once what is watched is gone; or ERROR, see below
 *   DIAL      0x30 {PORT, HOST?}       STARTED, CREDIT, OUT…, SHUT, DONE; or ERROR at any time: a TCP connection to a port of the guest
 *                                      itself, see below
 *
 * Guest → host
 *   HELLO 0x81, PONG 0x82, DONE 0x83, ERROR 0x84 {ERRNO, TEXT}, STARTED 0x90, OUT 0x91 raw, ERR 0x92 raw,
 *   CREDIT 0x93 {BYTES} (grants the host DATA bytes), EXIT 0x94 {CODE (i64, -1 if signalled), SIGNAL, FLAGS,
 *   STDOUT_BYTES, STDERR_BYTES, DURATION_US}, CHUNK 0x95 raw, GAP 0x96 {BYTES}, SHUT 0x97 {}
 *
 * EXEC FLAGS: bit 0 python (ARG is path, arguments…; CODE, if present, is written to the path first; run in a fork of the
 * warm interpreter, or `python3` if that is gone), bit 1 stdin open (else stdin is empty), bit 2 background.
 * EXIT FLAGS: bit 0 timed out, bit 1 stdout cut, bit 2 stderr cut. OUTPUT_LIMIT is per stream and for foreground only: what is
 * beyond is read, counted and dropped; in the background the ring is the bound.
 * A file record (STAT, LIST): u32 length of the rest, u8 type (1 file, 2 directory, 3 symlink, 4 other), u32 mode, u32 uid,
 * u32 gid, u64 size, i64 mtime in ns, u16 name length, name, u16 target length, target. Names are bytes, not text.
 * A process record: u32 length of the rest, u64 process, u32 pid, u8 flags (bit 0 background, bit 1 running), i32 exit code,
 * u8 signal, u16 command length, command. A record is never split over two CHUNKs.
 * A change record (WATCH): u32 length of the rest, u8 what (1 created, 2 modified, 3 removed, 4 attributes, 5 overflow), u8 flags
 * (bit 0 directory), u16 path length, path below what is watched (empty: that itself).
 *
 * A terminal is the command's stdin, stdout and stderr, and its session's controlling one; TERM is xterm-256color unless ENV says
 * otherwise. All output is OUT. What is written to stdin is typed; closing it types the character that means the end, where the
 * terminal's modes have one: twice after half a line. When the command has ended, what the terminal holds is passed on, EXIT is
 * said, and it hangs up: daemons that are left in it are not waited for.
 *
 * WATCH tells of a directory's entries (with bit 0: of all below it), or of one file, from STARTED on; symbolic links are not followed.
 * What is moved is removed and created; what comes into a new directory before that is watched is told as created too. Changes of
 * one entry's content that follow each other may be told as one. Events wait in the kernel until the host takes them; once more
 * have come than fit there, one record says "overflow", after which all is watched again. Files that PUT has not finished are
 * left out. ERROR {ENOSPC}: more directories than may be watched; {EMFILE}: more WATCHes.
 *
 * DIAL connects to PORT (1 to 65535) at HOST, "127.0.0.1" or "::1"; without HOST at the first of the two, in this order, that does
 * not refuse. Within 10 s STARTED, or ERROR {ECONNREFUSED, ETIMEDOUT, …}. Each direction ends by itself: empty DATA ends the host's once
 * what came before it is with the peer, SHUT (at most once, no OUT after it) says that the peer has ended its own. DONE comes when
 * both have ended. A peer that reads no more is no end: DATA is then taken and dropped, until the peer's direction ends too. A
 * connection that the peer resets, that is cancelled or whose host goes away, is reset: ERROR {ECONNRESET}, ERROR {ECANCELED}, nothing.
 *
 * Frozen file systems thaw by THAW, CANCEL of the FREEZE, its host's hang-up, a HELLO on any port (so a guest that is resumed
 * with another host comes back thawed: what follows the answer may write), or after 30 s, whatever comes first. Until then requests
 * that have the agent itself write (SYNC, PUT and its DATA, EXEC with CODE, MKDIR, RENAME, CHMOD, REMOVE) are held, in order, and
 * done after it; all others are answered as ever.
 *
 * Flow: a stream starts with LIMITS.streamWindowBytes (262144) of credit in the guest → host direction (OUT, ERR and CHUNK
 * of a channel together) and with what CREDIT grants in the other. Neither side buffers more than the window per channel.
 * When the host goes away from a port (hang-up), the guest cancels that port's foreground channels; background ones go on.
 * HELLO does the same, for a guest may be resumed with another host behind its port and no hang-up in between. To be found
 * in whatever the earlier connection left under way: HELLO's channel is random, and the host drops what comes before its
 * answer; a header of zeros is padding, and so is every zero byte after it up to the next other byte: RESYNC_BYTES zeros
 * end any frame that an earlier host left half sent. DATA, CREDIT and CANCEL on a channel that has ended are ignored.
 */

export const PROTOCOL_VERSION = 1;
export const HEADER_BYTES = 12;
/** Zeros that outlast any half frame (64 KiB) and the padding header after it. */
export const RESYNC_BYTES = 65_536 + 3 * HEADER_BYTES;

/** Host → guest frame types. */
export const ASK = {
  HELLO: 0x01,
  PING: 0x02,
  IDENTITY: 0x03,
  WARM: 0x04,
  SYNC: 0x05,
  FREEZE: 0x06,
  THAW: 0x07,
  EXEC: 0x10,
  DATA: 0x11,
  CREDIT: 0x12,
  CANCEL: 0x13,
  SIGNAL: 0x14,
  PROCESSES: 0x15,
  ATTACH: 0x16,
  STDIN: 0x17,
  RESIZE: 0x18,
  GET: 0x20,
  PUT: 0x21,
  STAT: 0x22,
  LIST: 0x23,
  MKDIR: 0x24,
  RENAME: 0x25,
  CHMOD: 0x26,
  REMOVE: 0x27,
  WATCH: 0x28,
  DIAL: 0x30,
} as const;

/** Guest → host frame types. */
export const SAY = {
  HELLO: 0x81,
  PONG: 0x82,
  DONE: 0x83,
  ERROR: 0x84,
  STARTED: 0x90,
  OUT: 0x91,
  ERR: 0x92,
  CREDIT: 0x93,
  EXIT: 0x94,
  CHUNK: 0x95,
  GAP: 0x96,
  SHUT: 0x97,
} as const;

/** Field tags. */
export const TAG = {
  VERSION: 1,
  NONCE: 2,
  AGENT: 3,
  ENTROPY: 4,
  WALL_NS: 5,
  HOSTNAME: 6,
  BOOT_ID: 7,
  MACHINE_ID: 8,
  RESEED: 9,
  ARG: 10,
  ENV: 11,
  CWD: 12,
  USER: 13,
  TIMEOUT_MS: 14,
  OUTPUT_LIMIT: 15,
  FLAGS: 16,
  CODE: 17,
  PROCESS: 18,
  PID: 19,
  SIGNAL: 20,
  BYTES: 21,
  PATH: 22,
  PATH2: 23,
  MODE: 24,
  OFFSET: 25,
  LENGTH: 26,
  SIZE: 27,
  ERRNO: 28,
  TEXT: 29,
  STDOUT_BYTES: 30,
  STDERR_BYTES: 31,
  DURATION_US: 32,
  PORT: 33,
  HOST: 34,
  ROWS: 35,
  COLS: 36,
} as const;

export const EXEC_FLAG = { PYTHON: 1, STDIN_OPEN: 2, BACKGROUND: 4 } as const;
export const STARTED_FLAG = { TERMINAL: 1 } as const;
export const WATCH_FLAG = { RECURSIVE: 1 } as const;
export const SYNC_FLAG = { LIGHT: 1 } as const;
export const THAW_FLAG = { KEPT: 1 } as const;
export const EXIT_FLAG = { TIMED_OUT: 1, STDOUT_CUT: 2, STDERR_CUT: 4 } as const;
