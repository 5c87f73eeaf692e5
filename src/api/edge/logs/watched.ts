/** A host whose commands are written down as they print, and whose creates are counted. Otherwise it is the host that it was. */
import type { CellEvent } from "../../../contract/routes/contexts.ts";
import type { ExecEvent } from "../../../contract/routes/exec.ts";
import type { SandboxInfo } from "../../../contract/routes/sandboxes.ts";
import { routes, type SandboxHost } from "../../../contract/routes.ts";
import type { Recorder, Tapes } from "./tapes.ts";

/** The same events; `hear` sees each first, `over` runs at the end however it comes. */
function heard<T>(events: AsyncIterable<T>, hear: (event: T) => void, over: () => void): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]() {
      const inner = events[Symbol.asyncIterator]();
      return {
        async next() {
          try {
            const result = await inner.next();
            if (result.done === true) over();
            else hear(result.value);
            return result;
          } catch (cause) {
            over();
            throw cause;
          }
        },
        async return(value?: unknown) {
          over();
          return (await inner.return?.(value)) ?? { done: true, value: undefined };
        },
      };
    },
  };
}

function hearExec(recorder: Recorder): (event: ExecEvent) => void {
  return (event) => {
    if (event.kind === "stdout" || event.kind === "stderr") recorder.take(event.kind, event.bytes);
  };
}

function hearAttached(recorder: Recorder, process: number): (event: ExecEvent) => void {
  return (event) => {
    if (event.kind === "stdout" || event.kind === "stderr") recorder.takeOf(process, event.kind, event.bytes);
    else if (event.kind === "gap") recorder.skip(event.bytes);
  };
}

function hearCell(recorder: Recorder): (event: CellEvent) => void {
  return (event) => {
    if (event.kind !== "stdout" && event.kind !== "stderr") return;
    recorder.take(event.kind, new TextEncoder().encode(event.text));
  };
}

/** Each call handed on, so that a host may be of any class. */
function handedOn(host: SandboxHost): SandboxHost {
  if (Object.getPrototypeOf(host) === Object.prototype) return { ...host };
  type Call = (...given: unknown[]) => unknown;
  const calls = host as unknown as Readonly<Record<string, Call>>;
  const names = Object.keys(routes);
  return Object.fromEntries(names.map((name) => [name, (...given: unknown[]) => calls[name]?.(...given)])) as never;
}

/** What is shown on a terminal is a picture of it, keystrokes included, and not written down. */
export function watchedHost(
  host: SandboxHost,
  account: string,
  tapes: Tapes,
  created: (info: SandboxInfo) => void,
): SandboxHost {
  return {
    ...handedOn(host),
    create: async (input, options) => {
      const info = await host.create(input, options);
      created(info);
      return info;
    },
    exec: async (input, options) => {
      const events = await host.exec(input, options);
      if (input.terminal !== undefined) return events;
      const recorder = tapes.recorder(account, input.id);
      return heard(events, hearExec(recorder), () => recorder.end());
    },
    attach: async (input, options) => {
      const recorder = tapes.recorder(account, input.id);
      return heard(await host.attach(input, options), hearAttached(recorder, input.process), () => recorder.end());
    },
    runCode: async (input, options) => {
      const recorder = tapes.recorder(account, input.id);
      return heard(await host.runCode(input, options), hearCell(recorder), () => recorder.end());
    },
  };
}
