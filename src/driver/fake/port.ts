/** One connection of the fake guest: frames in, frames out, credit kept in both directions. */
import { PYTHON_PATH } from "../../contract/routes/exec.ts";
import { encodeFrame, type Frame } from "../../guest/codec.ts";
import { decodeFields, encodeFields, type Field, type Fields } from "../../guest/fields.ts";
import {
  ASK,
  EXEC_FLAG,
  EXIT_FLAG,
  PROTOCOL_VERSION,
  SAY,
  STARTED_FLAG,
  TAG,
  THAW_FLAG,
  WATCH_FLAG,
} from "../../guest/protocol.ts";
import { encodeChangeRecord, encodeFileRecord, encodeProcessRecord } from "../../guest/records.ts";
import { LIMITS } from "../../limits.ts";
import type { Link } from "../driver.ts";
import { GuestError, key } from "./files.ts";
import type { FakeGuest } from "./guest.ts";
import { FakeProcess, type ProcessEnd, type Sink, type Stream } from "./process.ts";
import { path, sizeOf, startOf } from "./request.ts";
import { isCommand } from "./shell.ts";
import { FakeWatch } from "./watch.ts";

const ESRCH = 3;
const ENOTTY = 25;
const ECONNREFUSED = 111;
const EALREADY = 114;
const ECANCELED = 125;
const LAST: ReadonlySet<number> = new Set([SAY.DONE, SAY.ERROR, SAY.EXIT]);

/** One exchange that is under way. */
interface Channel {
  credit: number;
  wake: PromiseWithResolvers<void>;
  closed: boolean;
  onData: (bytes: Uint8Array) => void;
  onCancel: () => void;
}

type Answer = (fields: Fields, channel: number) => void | Promise<void>;

export class FakePort {
  readonly #guest: FakeGuest;
  readonly #link: Link;
  readonly #channels = new Map<number, Channel>();
  #sending: Promise<void> = Promise.resolve();
  /** It has frozen its guest, at some time. */
  #freezes = false;

  constructor(guest: FakeGuest, link: Link) {
    this.#guest = guest;
    this.#link = link;
  }

  /** Cancels what was begun over this port; background commands go on. */
  hangUp(): void {
    if (this.#freezes) this.#guest.frozen = false;
    for (const channel of this.#channels.values()) {
      channel.closed = true;
      channel.wake.resolve();
      channel.onCancel();
    }
    this.#channels.clear();
    this.#link.close();
  }

  refuse(channel: number): void {
    this.#fail(channel, new GuestError(5, "Input/output error"));
  }

  /** Starts answering; does not wait for the answer's end. */
  handle({ type, channel, payload }: Frame): void {
    const open = this.#channels.get(channel);
    const answer = this.#answers[type];
    if (type === ASK.PING) this.#say(SAY.PONG, channel, payload);
    else if (type === ASK.DATA) open?.onData(payload);
    else if (type === ASK.CANCEL) open?.onCancel();
    else if (type === ASK.CREDIT) this.#grant(channel, decodeFields(payload).number(TAG.BYTES));
    else if (answer !== undefined) void this.#run(answer, decodeFields(payload), channel);
    else this.#fail(channel, new GuestError(38, "Function not implemented"));
  }

  #grant(channel: number, bytes: number): void {
    const open = this.#channels.get(channel);
    if (open === undefined) return;
    open.credit += bytes;
    open.wake.resolve();
  }

  async #run(answer: Answer, fields: Fields, channel: number): Promise<void> {
    const { promise: cancelled, reject: cancel } = Promise.withResolvers<never>();
    const open: Channel = {
      credit: LIMITS.streamWindowBytes,
      wake: Promise.withResolvers(),
      closed: false,
      onData: () => undefined,
      onCancel: () => cancel(new GuestError(ECANCELED, "Operation canceled")),
    };
    this.#channels.set(channel, open);
    const answered = Promise.try(answer, fields, channel);
    try {
      await Promise.race([answered, cancelled]);
    } catch (cause) {
      if (!(cause instanceof GuestError)) throw cause;
      this.#fail(channel, cause);
    }
    open.closed = true;
    open.wake.resolve();
    await answered.catch(() => undefined); // told above, or of no interest to one that cancelled
    if (this.#channels.get(channel) === open) this.#channels.delete(channel);
  }

  readonly #answers: Readonly<Record<number, Answer>> = {
    [ASK.HELLO]: (_, channel) => {
      this.#guest.frozen = false;
      this.#fields(SAY.HELLO, channel, [
        [TAG.VERSION, PROTOCOL_VERSION],
        [TAG.NONCE, this.#guest.bootNonce],
        [TAG.AGENT, "fake"],
      ]);
    },
    [ASK.IDENTITY]: (fields, channel) => {
      this.#guest.hostname = fields.text(TAG.HOSTNAME);
      this.#fields(SAY.DONE, channel, [[TAG.WALL_NS, fields.u64(TAG.WALL_NS)]]);
    },
    [ASK.WARM]: (_, channel) => this.#done(channel),
    [ASK.SYNC]: (_, channel) => this.#done(channel),
    [ASK.FREEZE]: (_, channel) => {
      if (this.#guest.frozen) throw new GuestError(EALREADY, "Operation already in progress");
      this.#guest.frozen = true;
      this.#freezes = true;
      this.#done(channel);
    },
    [ASK.THAW]: (_, channel) => {
      this.#fields(SAY.DONE, channel, [[TAG.FLAGS, this.#guest.frozen ? THAW_FLAG.KEPT : 0]]);
      this.#guest.frozen = false;
    },
    [ASK.EXEC]: (fields, channel) => this.#exec(fields, channel),
    [ASK.ATTACH]: (fields, channel) => this.#attach(fields, channel),
    [ASK.SIGNAL]: (fields, channel) => {
      this.#process(fields).kill(fields.number(TAG.SIGNAL));
      this.#done(channel);
    },
    [ASK.PROCESSES]: (_, channel) => {
      for (const { record } of this.#guest.processes.values()) {
        this.#say(SAY.CHUNK, channel, encodeProcessRecord(record));
      }
      this.#done(channel);
    },
    [ASK.STDIN]: (fields, channel) => {
      const process = this.#process(fields);
      if (fields.has(TAG.CODE)) process.feed(fields.bytes(TAG.CODE).slice());
      if ((fields.numberOr(TAG.FLAGS, 0) & 1) !== 0) process.closeStdin();
      this.#done(channel);
    },
    [ASK.RESIZE]: (fields, channel) => {
      const { terminal, end } = this.#process(fields);
      if (end !== null) throw new GuestError(ESRCH, "No such process");
      if (terminal === null) throw new GuestError(ENOTTY, "Inappropriate ioctl for device");
      terminal.size = sizeOf(fields);
      this.#done(channel);
    },
    [ASK.WATCH]: (fields, channel) => this.#watch(fields, channel),
    [ASK.GET]: (fields, channel) => this.#get(fields, channel),
    [ASK.PUT]: (fields, channel) => this.#put(fields, channel),
    [ASK.STAT]: (fields, channel) => {
      this.#say(SAY.CHUNK, channel, encodeFileRecord(this.#guest.files.stat(path(fields))));
      this.#done(channel);
    },
    [ASK.LIST]: (fields, channel) => {
      for (const record of this.#guest.files.list(path(fields)))
        this.#say(SAY.CHUNK, channel, encodeFileRecord(record));
      this.#done(channel);
    },
    [ASK.DIAL]: (fields, channel) => this.#dial(fields, channel),
    [ASK.MKDIR]: (fields, channel) => {
      this.#guest.files.mkdir(path(fields), fields.numberOr(TAG.MODE, 0o755));
      this.#done(channel);
    },
    [ASK.RENAME]: (fields, channel) => {
      this.#guest.files.rename(path(fields), key(fields.bytes(TAG.PATH2)));
      this.#done(channel);
    },
    [ASK.CHMOD]: (fields, channel) => {
      this.#guest.files.chmod(path(fields), fields.number(TAG.MODE));
      this.#done(channel);
    },
    [ASK.REMOVE]: (fields, channel) => {
      this.#guest.files.remove(path(fields));
      this.#done(channel);
    },
  };

  async #exec(fields: Fields, channel: number): Promise<void> {
    const flags = fields.numberOr(TAG.FLAGS, 0);
    const background = (flags & EXEC_FLAG.BACKGROUND) !== 0;
    const python = (flags & EXEC_FLAG.PYTHON) !== 0;
    const start = startOf(fields, flags);
    if (python) this.#python(start.argv, fields);
    else if (!isCommand(start.argv[0] ?? "")) throw new GuestError(2, "No such file or directory");
    const { processes } = this.#guest;
    const sink = background ? null : this.#sink(channel);
    const process = new FakeProcess(
      this.#guest.nextProcess(),
      python ? { ...start, argv: ["true"] } : start,
      this.#guest,
      sink,
    );
    processes.set(process.process, process);
    this.#started(process, channel);
    if ((flags & EXEC_FLAG.STDIN_OPEN) === 0 && start.terminal === null) process.closeStdin();
    if (background) return this.#done(channel);
    this.#takeData(channel, (bytes) => (bytes.length === 0 ? process.closeStdin() : process.feed(bytes.slice())));
    const open = this.#channels.get(channel);
    if (open !== undefined) open.onCancel = () => process.kill(9);
    this.#exit(await process.ended, channel);
    processes.delete(process.process);
  }

  /** Nothing here runs Python; the source is written, as the real agent does first. */
  #python(argv: readonly string[], fields: Fields): void {
    const at = argv[0] ?? PYTHON_PATH;
    if (fields.has(TAG.CODE)) this.#guest.files.write(at, 0o644, fields.bytes(TAG.CODE).slice());
    else this.#guest.files.read(at);
  }

  async #attach(fields: Fields, channel: number): Promise<void> {
    const process = this.#process(fields);
    this.#started(process, channel);
    const gap = async (bytes: number) => this.#fields(SAY.GAP, channel, [[TAG.BYTES, bytes]]);
    this.#exit(await process.follow(gap, this.#sink(channel)), channel);
  }

  async #watch(fields: Fields, channel: number): Promise<void> {
    const recursive = (fields.numberOr(TAG.FLAGS, 0) & WATCH_FLAG.RECURSIVE) !== 0;
    const { promise: cancelled, reject } = Promise.withResolvers<never>();
    const open = this.#channels.get(channel);
    if (open !== undefined) open.onCancel = () => reject(new GuestError(ECANCELED, "Operation canceled"));
    const changes = new FakeWatch(this.#guest.files, path(fields), recursive);
    try {
      this.#say(SAY.STARTED, channel, new Uint8Array(0));
      for (let next = await changes.next(cancelled); next !== null; next = await changes.next(cancelled)) {
        await this.#send(SAY.CHUNK, channel, encodeChangeRecord(next));
      }
      this.#done(channel);
    } finally {
      changes.end();
    }
  }

  /** Until both directions are over. */
  async #dial(fields: Fields, channel: number): Promise<void> {
    const accept = this.#guest.ports.accept(fields.number(TAG.PORT));
    if (accept === null) throw new GuestError(ECONNREFUSED, "Connection refused");
    this.#say(SAY.STARTED, channel, new Uint8Array(0));
    const [heard, said] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let sending: Promise<void> = Promise.resolve();
    const say = (bytes: Uint8Array) => {
      sending = sending.then(() => this.#send(SAY.OUT, channel, bytes));
    };
    const end = () => void sending.then(() => said.resolve());
    const peer = accept(say, end);
    this.#takeData(channel, (bytes) => {
      peer.take(bytes.slice());
      if (bytes.length === 0) heard.resolve();
    });
    await said.promise;
    this.#say(SAY.SHUT, channel, new Uint8Array(0));
    await heard.promise;
    this.#done(channel);
  }

  async #get(fields: Fields, channel: number): Promise<void> {
    const { files, ports } = this.#guest;
    const content = ports.file(path(fields)) ?? files.read(path(fields));
    const from = fields.numberOr(TAG.OFFSET, 0);
    const length = fields.has(TAG.LENGTH) ? fields.number(TAG.LENGTH) : content.length;
    const part = content.subarray(from, from + length);
    for (let at = 0; at < part.length; at += LIMITS.frameBytes) {
      await this.#send(SAY.CHUNK, channel, part.subarray(at, at + LIMITS.frameBytes));
    }
    this.#fields(SAY.DONE, channel, [[TAG.SIZE, part.length]]);
  }

  async #put(fields: Fields, channel: number): Promise<void> {
    const mode = fields.numberOr(TAG.MODE, 0o644);
    const { files } = this.#guest;
    const content = fields.has(TAG.CODE) ? fields.bytes(TAG.CODE).slice() : await this.#receive(channel);
    files.write(path(fields), mode, content);
    this.#fields(SAY.DONE, channel, [[TAG.SIZE, content.length]]);
  }

  /** Whole, or never: what is cancelled half-way leaves nothing. */
  #receive(channel: number): Promise<Uint8Array> {
    const { promise, resolve } = Promise.withResolvers<Uint8Array>();
    const parts: Uint8Array[] = [];
    this.#takeData(channel, (bytes) => {
      if (bytes.length === 0) resolve(new Uint8Array(Buffer.concat(parts)));
      else parts.push(bytes.slice());
    });
    return promise;
  }

  #takeData(channel: number, take: (bytes: Uint8Array) => void): void {
    const open = this.#channels.get(channel);
    if (open === undefined) return;
    open.onData = (bytes) => {
      take(bytes);
      if (bytes.length > 0) this.#fields(SAY.CREDIT, channel, [[TAG.BYTES, bytes.length]]);
    };
    this.#fields(SAY.CREDIT, channel, [[TAG.BYTES, LIMITS.streamWindowBytes]]);
  }

  #process(fields: Fields): FakeProcess {
    const process = this.#guest.processes.get(fields.number(TAG.PROCESS));
    if (process === undefined) throw new GuestError(ESRCH, "No such process");
    return process;
  }

  #started(process: FakeProcess, channel: number): void {
    this.#fields(SAY.STARTED, channel, [
      [TAG.PROCESS, process.process],
      [TAG.PID, process.pid],
      ...(process.terminal === null ? [] : [[TAG.FLAGS, STARTED_FLAG.TERMINAL] as const]),
    ]);
  }

  #exit(end: ProcessEnd, channel: number): void {
    const flags =
      (end.timedOut ? EXIT_FLAG.TIMED_OUT : 0) |
      (end.cut.stdout ? EXIT_FLAG.STDOUT_CUT : 0) |
      (end.cut.stderr ? EXIT_FLAG.STDERR_CUT : 0);
    this.#fields(SAY.EXIT, channel, [
      [TAG.CODE, end.exitCode],
      [TAG.SIGNAL, end.signal],
      [TAG.FLAGS, flags],
      [TAG.STDOUT_BYTES, end.bytes.stdout],
      [TAG.STDERR_BYTES, end.bytes.stderr],
      [TAG.DURATION_US, end.durationUs],
    ]);
  }

  #sink(channel: number): Sink {
    return async (stream: Stream, bytes: Uint8Array) => {
      for (let at = 0; at < bytes.length; at += LIMITS.frameBytes) {
        const type = stream === "stdout" ? SAY.OUT : SAY.ERR;
        await this.#send(type, channel, bytes.subarray(at, at + LIMITS.frameBytes));
      }
    };
  }

  /** Waits for credit. After a hang-up it drops what it is given. */
  async #send(type: number, channel: number, bytes: Uint8Array): Promise<void> {
    const open = this.#channels.get(channel);
    while (open !== undefined && !open.closed && open.credit < bytes.length) {
      await open.wake.promise;
      open.wake = Promise.withResolvers();
    }
    if (open === undefined || open.closed) return;
    open.credit -= bytes.length;
    this.#say(type, channel, bytes);
  }

  #done(channel: number): void {
    this.#say(SAY.DONE, channel, new Uint8Array(0));
  }

  #fail(channel: number, { errno, message }: GuestError): void {
    this.#fields(SAY.ERROR, channel, [
      [TAG.ERRNO, errno],
      [TAG.TEXT, message],
    ]);
  }

  #fields(type: number, channel: number, fields: readonly Field[]): void {
    this.#say(type, channel, encodeFields(fields));
  }

  #say(type: number, channel: number, payload: Uint8Array): void {
    const open = this.#channels.get(channel);
    if (open?.closed === true) return;
    if (open !== undefined && LAST.has(type)) open.closed = true; // whatever is still under way there has nobody to hear it
    const bytes = encodeFrame(type, channel, payload);
    const after = this.#sending.then(() => this.#link.write(bytes));
    this.#sending = after.catch(() => undefined); // the host hung up: there is nobody left to tell
  }
}
