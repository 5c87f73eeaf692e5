/**
 * The host half of the guest's agent: everything a sandbox can be asked, over one connection. Bounded whatever the guest
 * does: streams by credit, waits by deadlines, frames by the codec. After a protocol violation nothing more is believed.
 */
import type { Clock } from "../base/clock.ts";
import type { Body } from "../contract/route.ts";
import { type ExecEvent, type ProcessInfo, PYTHON_PATH, type TerminalSize } from "../contract/routes/exec.ts";
import type { FileInfo, WatchEvent } from "../contract/routes/files.ts";
import type { PortInfo } from "../contract/routes/ports.ts";
import type { Link } from "../driver/driver.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { violation } from "./codec.ts";
import { archiveIn, archiveOut, feeder, patient, removeAll } from "./commands.ts";
import { Connection, type ConnectOptions } from "./connection.ts";
import { type DialTarget, dial } from "./dial/dial.ts";
import { listening } from "./dial/listening.ts";
import {
  type ExecRequest,
  encodeAttach,
  encodeExec,
  follow,
  keepsStdin,
  limitsOf,
  processInfo,
  type RunLimits,
  sizeFields,
} from "./exec.ts";
import { encodeFields, type Field, type Fields } from "./fields.ts";
import { ask, listFiles, pieces, readBytes, statFile, writeBytes } from "./files.ts";
import { ASK, SAY, SYNC_FLAG, TAG, THAW_FLAG } from "./protocol.ts";
import { decodeProcessRecords } from "./records.ts";
import { PROCESS_MEANING, refused } from "./refusal.ts";
import { signalNumber } from "./signals.ts";
import { watch } from "./watch/watch.ts";

export type { ConnectOptions } from "./connection.ts";
export type { ExecRequest } from "./exec.ts";

/** What makes a clone a machine of its own. */
export interface GuestIdentity {
  /** 64 bytes from the host's generator. */
  readonly entropy: Uint8Array;
  readonly wallNs: bigint;
  readonly hostname: string;
  /** UUID text. */
  readonly bootId: string;
  /** 32 hexadecimal digits. */
  readonly machineId: string;
  /** False only in the control run that shows what reseeding is for. */
  readonly reseed: boolean;
}

interface PathInput {
  readonly path: string;
}

export class GuestAgent {
  /** Changes when the guest boots, not when its snapshot is restored; hexadecimal. */
  readonly bootNonce: string;
  /** The agent's build. */
  readonly version: string;
  /** Resolves when the guest hangs up or breaks the protocol; never after `close`. */
  readonly lost: Promise<WarrenError>;
  readonly #connection: Connection;
  readonly #clock: Clock;
  #closed = false;

  private constructor(connection: Connection, hello: Fields) {
    this.#connection = connection;
    this.#clock = connection.clock;
    this.bootNonce = Buffer.from(hello.bytes(TAG.NONCE)).toString("hex").slice(0, 64);
    this.version = hello.text(TAG.AGENT).slice(0, 64);
    this.lost = connection.lost.then((error) => (this.#closed ? new Promise(() => undefined) : error));
  }

  /**
   * Greets the agent behind a link, which belongs to the connection from then on.
   * @throws {WarrenError} `guest_unresponsive`, `guest_protocol`, `sandbox_lost`, `cancelled`; the link is closed
   */
  static async connect(link: Link, options: ConnectOptions): Promise<GuestAgent> {
    const connection = new Connection(link, options.clock);
    try {
      return new GuestAgent(connection, await connection.greet(options));
    } catch (cause) {
      const ours = cause instanceof WarrenError;
      throw connection.fail(ours ? cause : new WarrenError("internal", "greeting the guest failed", { cause }));
    }
  }

  /** Milliseconds of one round trip. */
  async ping(signal?: AbortSignal): Promise<number> {
    const start = this.#clock.monotonicMs();
    await this.#plain(ASK.PING, [], { signal, wanted: SAY.PONG });
    return this.#clock.monotonicMs() - start;
  }

  /**
   * Gives a clone its own randomness, time and names; user code may run only after it has resolved.
   * @throws {WarrenError} `guest_protocol` – the guest did not confirm every step.
   */
  async identity(identity: GuestIdentity, signal?: AbortSignal): Promise<void> {
    const fields: Field[] = [
      [TAG.ENTROPY, identity.entropy],
      [TAG.WALL_NS, identity.wallNs],
      [TAG.HOSTNAME, identity.hostname],
      [TAG.BOOT_ID, identity.bootId],
      [TAG.MACHINE_ID, identity.machineId],
      [TAG.RESEED, identity.reseed ? 1 : 0],
    ];
    await this.#plain(ASK.IDENTITY, fields, { signal, withinMs: LIMITS.guestIdentityMs });
  }

  /** Starts the warm interpreter with these modules imported. */
  async warm(modules: readonly string[], signal?: AbortSignal): Promise<void> {
    const fields = modules.map((name): Field => [TAG.ARG, name]);
    await this.#plain(ASK.WARM, fields, { signal, withinMs: LIMITS.bakeWarmMs });
  }

  /**
   * The guest may be paused: everything is on the disk, free pages are given back, the warm interpreter has its next child.
   * `light` leaves out the disk and the pages: for a clone that is never saved.
   */
  async sync(options: { readonly light?: boolean } = {}, signal?: AbortSignal): Promise<void> {
    const fields: Field[] = options.light === true ? [[TAG.FLAGS, SYNC_FLAG.LIGHT]] : [];
    await this.#plain(ASK.SYNC, fields, { signal });
  }

  /**
   * Writes every disk's file system out and holds all writers until {@link thaw}, so that a copy of the disk is whole. The guest
   * thaws by itself when this connection ends, when another host greets it, and after 30 s.
   * @throws {WarrenError} `wrong_state` – it is frozen already, or a file system cannot be; `guest_unresponsive`; nothing stays frozen
   */
  async freeze(signal?: AbortSignal): Promise<void> {
    try {
      await this.#connection.request(ASK.FREEZE, new Uint8Array(0), { signal, withinMs: LIMITS.guestFreezeMs });
    } catch (cause) {
      throw refused(cause, {}, "wrong_state");
    }
  }

  /** Lets writers go on; fine when nothing is frozen. @returns whether all stayed frozen since {@link freeze} resolved */
  async thaw(signal?: AbortSignal): Promise<boolean> {
    try {
      const within = { signal, withinMs: LIMITS.guestFreezeMs };
      const done = await this.#connection.request(ASK.THAW, new Uint8Array(0), within);
      return (done.numberOr(TAG.FLAGS, 0) & THAW_FLAG.KEPT) !== 0;
    } catch (cause) {
      throw refused(cause, {}, "wrong_state");
    }
  }

  /**
   * Runs a command; the guest is read as slowly as the events are. Leaving a foreground command's events kills it.
   * @throws {WarrenError} `invalid_request` – it cannot be started; `guest_unresponsive`, `guest_protocol`, `sandbox_lost`
   */
  async *exec(request: ExecRequest, signal?: AbortSignal): AsyncGenerator<ExecEvent> {
    const limits = limitsOf(request);
    const payload = await this.#execPayload(request, limits, signal);
    const closes = !keepsStdin(request);
    const terminal = request.terminal !== undefined;
    const background = request.background === true;
    const feed = request.stdin === undefined || background ? undefined : feeder(request.stdin, patient, closes);
    for await (const event of follow(this.#connection, ASK.EXEC, payload, limits, signal, { feed, terminal })) {
      // In the background the answer ends here, and stdin goes by the command's number, beside whatever the caller does.
      if (event.kind === "started" && background && request.stdin !== undefined) {
        const written = this.#write(event.process, request.stdin, closes, undefined);
        void written.catch(() => undefined); // that a command ends, or never reads, is its own affair
      }
      yield event;
    }
  }

  /**
   * Writes to a command's stdin, no faster than it reads, however long that takes; an empty body closes it.
   * @throws {WarrenError} `process_not_found`; `wrong_state` – it reads no more
   */
  async stdin(process: number, body: Body, signal?: AbortSignal): Promise<void> {
    const sent = await this.#write(process, body, false, signal);
    if (sent === 0) await this.#stdin(process, new Uint8Array(0), true, signal);
  }

  /** Tells a command's terminal its size. @throws {WarrenError} `process_not_found`; `wrong_state` – it has no terminal */
  async resizeTerminal(process: number, size: TerminalSize, signal?: AbortSignal): Promise<void> {
    await this.#plain(ASK.RESIZE, [[TAG.PROCESS, process], ...sizeFields(size)], { signal });
  }

  /** Commands that run, and background ones that have ended. */
  async processes(signal?: AbortSignal): Promise<ProcessInfo[]> {
    const infos: ProcessInfo[] = [];
    const onData = (bytes: Uint8Array): void => {
      infos.push(...decodeProcessRecords(bytes).map(processInfo));
      if (infos.length > 3 * LIMITS.processes + LIMITS.channels) throw violation("more processes than there can be");
    };
    await this.#plain(ASK.PROCESSES, [], { signal, onData });
    return infos.sort((a, b) => a.process - b.process);
  }

  /** What a background command's ring still holds, then what it writes, to its end; leaving does not end the command. */
  async *attach(process: number, signal?: AbortSignal): AsyncGenerator<ExecEvent> {
    const limits = { outputBytes: null, timeoutMs: null };
    const meaning = PROCESS_MEANING;
    yield* follow(this.#connection, ASK.ATTACH, encodeAttach(process), limits, signal, { meaning });
  }

  /** @throws {WarrenError} `process_not_found`, `invalid_request` – no such signal. */
  async signal(process: number, signal: number | string, abort?: AbortSignal): Promise<void> {
    const fields: Field[] = [
      [TAG.PROCESS, process],
      [TAG.SIGNAL, signalNumber(signal)],
    ];
    await this.#plain(ASK.SIGNAL, fields, { signal: abort });
  }

  /** A regular file's bytes. @throws {WarrenError} `file_not_found`, `file_error` */
  readFile(
    input: PathInput & { readonly offset?: number | undefined; readonly length?: number | undefined },
    signal?: AbortSignal,
  ): AsyncIterable<Uint8Array> {
    return readBytes(this.#connection, input.path, input, signal);
  }

  /** Writes a whole file or nothing; parents are made. @throws {WarrenError} `file_error` */
  async writeFile(
    input: PathInput & { readonly mode?: number | undefined; readonly body: Body },
    signal?: AbortSignal,
  ): Promise<FileInfo> {
    await writeBytes(this.#connection, input.path, input.mode, input.body, signal);
    return statFile(this.#connection, input.path, signal);
  }

  stat(input: PathInput, signal?: AbortSignal): Promise<FileInfo> {
    return statFile(this.#connection, input.path, signal);
  }

  /** Entries by name. */
  listDirectory(input: PathInput, signal?: AbortSignal): Promise<FileInfo[]> {
    return listFiles(this.#connection, input.path, signal);
  }

  /** With its parents; one that exists is fine. */
  async mkdir(input: PathInput & { readonly mode?: number | undefined }, signal?: AbortSignal): Promise<void> {
    const mode: Field[] = input.mode === undefined ? [] : [[TAG.MODE, input.mode]];
    await ask(this.#connection, ASK.MKDIR, [[TAG.PATH, input.path], ...mode], signal);
  }

  async rename(input: PathInput & { readonly to: string }, signal?: AbortSignal): Promise<void> {
    const fields: Field[] = [
      [TAG.PATH, input.path],
      [TAG.PATH2, input.to],
    ];
    await ask(this.#connection, ASK.RENAME, fields, signal);
  }

  async chmod(input: PathInput & { readonly mode: number }, signal?: AbortSignal): Promise<void> {
    const fields: Field[] = [
      [TAG.PATH, input.path],
      [TAG.MODE, input.mode],
    ];
    await ask(this.#connection, ASK.CHMOD, fields, signal);
  }

  /** A file or an empty directory; with `recursive` a directory and all in it. */
  async removeFile(
    input: PathInput & { readonly recursive?: boolean | undefined },
    signal?: AbortSignal,
  ): Promise<void> {
    if (input.recursive !== true) return ask(this.#connection, ASK.REMOVE, [[TAG.PATH, input.path]], signal);
    await statFile(this.#connection, input.path, signal); // rm -f would be content with nothing there
    return removeAll(this.#connection, input.path, signal);
  }

  /** What changes there, see {@link watch}; `ready` first. Leaving ends it in the guest too. */
  watch(
    input: PathInput & { readonly recursive?: boolean | undefined },
    signal?: AbortSignal,
  ): AsyncGenerator<WatchEvent> {
    return watch(this.#connection, input.path, input.recursive === true, signal);
  }

  /** A directory or file as a tar stream. */
  archiveOut(input: PathInput, signal?: AbortSignal): AsyncIterable<Uint8Array> {
    return archiveOut(this.#connection, input.path, signal);
  }

  /** Unpacks a tar stream into a directory. */
  archiveIn(input: PathInput & { readonly body: Body }, signal?: AbortSignal): Promise<void> {
    return archiveIn(this.#connection, input.path, input.body, signal);
  }

  /** A TCP connection to a port of the guest's own, see {@link dial}; the first piece is empty and says that it stands. */
  dial(target: DialTarget, body: Body, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    return dial(this.#connection, target, body, signal);
  }

  /** TCP ports that programs in the guest listen on, lowest first. */
  ports(signal?: AbortSignal): Promise<PortInfo[]> {
    return listening((path) => readBytes(this.#connection, path, {}, signal));
  }

  /** Ends the connection; what it had under way fails with `sandbox_lost`. Twice is fine. */
  close(): void {
    this.#closed = true;
    this.#connection.fail(new WarrenError("sandbox_lost", "the connection to the guest was closed"));
  }

  /** EXEC's payload; a program too large to travel with its request is written first. */
  async #execPayload(request: ExecRequest, limits: RunLimits, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const bare = encodeExec(request, limits);
    if (bare.length > LIMITS.frameBytes) {
      throw new WarrenError("invalid_request", "the command, its arguments and its environment are too large");
    }
    const code = request.python?.code;
    if (code === undefined) return bare;
    const whole = encodeExec(request, limits, code);
    if (whole.length <= LIMITS.frameBytes) return whole;
    await writeBytes(this.#connection, request.python?.path ?? PYTHON_PATH, undefined, code, signal);
    return bare;
  }

  async #write(process: number, body: Body, closes: boolean, signal: AbortSignal | undefined): Promise<number> {
    let sent = 0;
    for await (const piece of pieces(body)) {
      for (let at = 0; at < piece.length; at += LIMITS.inlineFileBytes) {
        await this.#stdin(process, piece.subarray(at, at + LIMITS.inlineFileBytes), false, signal);
      }
      sent += piece.length;
    }
    if (closes) await this.#stdin(process, new Uint8Array(0), true, signal);
    return sent;
  }

  async #stdin(process: number, bytes: Uint8Array, closes: boolean, signal: AbortSignal | undefined): Promise<void> {
    const fields: Field[] = [
      [TAG.PROCESS, process],
      [TAG.CODE, bytes],
      [TAG.FLAGS, closes ? 1 : 0],
    ];
    // Answered when there is room for it: a command may leave its stdin unread for as long as it lives.
    await this.#plain(ASK.STDIN, fields, { signal, withinMs: Number.POSITIVE_INFINITY });
  }

  async #plain(type: number, fields: readonly Field[], options: Parameters<Connection["request"]>[2]): Promise<void> {
    try {
      await this.#connection.request(type, encodeFields(fields), options);
    } catch (cause) {
      if (cause instanceof WarrenError && cause.code === "guest_protocol") throw this.#connection.fail(cause);
      throw refused(cause, PROCESS_MEANING, "guest_protocol");
    }
  }
}
