/**
 * A terminal over a WebSocket: binary frames are keystrokes and output, text frames are `{"resize":{rows,cols}}` to us, and
 * `{"process":N}` first and `{"exit":N}` last to the client. Who closes it ends its shell; whose connection drops has a minute to come
 * back to it, by that number.
 */
import type { Clock } from "../../base/clock.ts";
import { parse } from "../../contract/parse.ts";
import type { Input } from "../../contract/route.ts";
import type { callRoutes } from "../../contract/routes/api/calls.ts";
import { type ExecEvent, TerminalSize } from "../../contract/routes/exec.ts";
import type { SandboxHost } from "../../contract/routes.ts";
import { exitCodeOf } from "../../contract/wire/wire.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import { SHELL } from "../../sandbox/terminal.ts";
import type { AppParts, SocketEnd } from "../parts.ts";
import { Inbox } from "./inbox.ts";
import { Outbox, SocketGone } from "./outbox.ts";
import { readsNoMore } from "./stdin.ts";
import { failSocket, isOver, type Place, type PlacedCall, upgraded, whenEnding } from "./upgrade.ts";

type Asked = Input<typeof callRoutes.terminal>;

const SIZE = { rows: 24, cols: 80 } as const;

/** Shells whose connection dropped: when one is not wanted back in time it is ended. */
class Left {
  readonly #clock: Clock;
  readonly #keepMs: number;
  readonly #cancels = new Map<string, () => void>();

  constructor(clock: Clock, keepMs: number) {
    this.#clock = clock;
    this.#keepMs = keepMs;
  }

  keep(key: string, end: () => void): void {
    this.back(key);
    const cancel = this.#clock.after(this.#keepMs, () => this.#cancels.delete(key) && end(), { background: true });
    this.#cancels.set(key, cancel);
  }

  back(key: string): void {
    this.#cancels.get(key)?.();
    this.#cancels.delete(key);
  }
}

/** Its number, in the background: it is not the connection's. @throws {WarrenError} as `exec` does */
async function started(host: SandboxHost, asked: Asked): Promise<number> {
  const { id, rows = SIZE.rows, cols = SIZE.cols, cmd = SHELL, cwd, user } = asked;
  const events = await host.exec({
    ...{ id, cmd, terminal: { rows, cols }, background: true },
    ...(cwd === undefined ? {} : { cwd }),
    ...(user === undefined ? {} : { user }),
  });
  for await (const event of events) if (event.kind === "started") return event.process;
  throw new WarrenError("guest_protocol", "the terminal did not say that it started");
}

export function terminalCall({ clock, settings }: Pick<AppParts, "clock" | "settings">): PlacedCall {
  const left = new Left(clock, settings.terminalKeepMs);
  return async (context, { account, host, requestId }, input, place) => {
    const asked = input as Asked;
    const { id } = asked;
    const process = asked.process ?? (await started(host, asked));
    const over = new AbortController();
    const events = await host.attach({ id, process }, { signal: over.signal });
    const key = `${account}/${id}/${process}`;
    left.back(key);
    const terminal = new Terminal({ host, id, process, requestId, events, over, place });
    if (asked.process !== undefined && asked.rows !== undefined && asked.cols !== undefined)
      terminal.resize({ rows: asked.rows, cols: asked.cols });
    const end = terminal.end((code) => {
      if (isOver(code)) void terminal.kill();
      else left.keep(key, () => void terminal.kill());
    });
    whenEnding(context, (why) => void failSocket(terminal.outbox, why, requestId));
    try {
      return upgraded(context, end, place);
    } catch (cause) {
      over.abort();
      if (asked.process === undefined) await terminal.kill();
      throw cause;
    }
  };
}

interface TerminalParts {
  readonly host: SandboxHost;
  readonly id: string;
  readonly process: number;
  readonly requestId: string;
  readonly events: AsyncIterable<ExecEvent>;
  /** Ends the attachment, and nothing else. */
  readonly over: AbortController;
  readonly place: Place;
}

class Terminal {
  readonly outbox: Outbox;
  readonly #inbox: Inbox;
  readonly #parts: TerminalParts;
  #exited = false;

  constructor(parts: TerminalParts) {
    this.#parts = parts;
    this.outbox = new Outbox(parts.place.charge());
    this.#inbox = new Inbox(parts.place.charge());
  }

  /** `closed` is called when the socket is, unless the shell had ended. */
  end(closed: (code: number) => void): SocketEnd {
    const { requestId, over } = this.#parts;
    return {
      open: (socket) => {
        this.outbox.opened(socket);
        void this.#show();
        void this.#type();
      },
      message: (_socket, message) => {
        try {
          if (typeof message === "string") this.#control(message);
          else this.#inbox.push(message.slice());
        } catch (cause) {
          void failSocket(this.outbox, cause, requestId);
        }
      },
      drain: () => this.outbox.drained(),
      close: (_socket, code) => {
        this.outbox.gone();
        this.#inbox.end();
        over.abort();
        if (!this.#exited) closed(code);
      },
    };
  }

  resize(size: TerminalSize): void {
    const { host, id, process, requestId } = this.#parts;
    host.resizeTerminal({ id, process, ...size }).catch((cause: unknown) => {
      if (!isWarrenError(cause, "process_not_found")) void failSocket(this.outbox, cause, requestId);
    });
  }

  /** Ends the shell and all it started. */
  async kill(): Promise<void> {
    const { host, id, process } = this.#parts;
    try {
      await host.signal({ id, process, signal: "SIGKILL" });
    } catch (cause) {
      if (!isWarrenError(cause)) throw cause; // it has ended, or its sandbox has
    }
  }

  #control(text: string): void {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      value = null; // told below
    }
    const asked = (value as { resize?: unknown } | null)?.resize;
    if (asked === undefined)
      throw new WarrenError("invalid_request", 'a text frame has to be {"resize":{"rows":…,"cols":…}}');
    this.resize(parse(TerminalSize, asked));
  }

  async #show(): Promise<void> {
    const { events, process, requestId } = this.#parts;
    try {
      await this.outbox.send(JSON.stringify({ process }));
      for await (const event of events) {
        if (event.kind === "stdout" || event.kind === "stderr") await this.outbox.send(event.bytes);
        if (event.kind !== "exit") continue;
        this.#exited = true;
        await this.outbox.send(JSON.stringify({ exit: exitCodeOf(event.exitCode, event.signal) }));
        this.outbox.close(1000, "");
      }
    } catch (cause) {
      if (!(cause instanceof SocketGone)) await failSocket(this.outbox, cause, requestId);
    }
  }

  async #type(): Promise<void> {
    const { host, id, process, requestId } = this.#parts;
    try {
      for await (const body of this.#inbox) await host.stdin({ id, process, body });
    } catch (cause) {
      // Keys that are lost have to be seen to be: the shell is kept to come back to.
      if (!readsNoMore(cause)) await failSocket(this.outbox, cause, requestId);
    } finally {
      this.#inbox.drop();
    }
  }
}
