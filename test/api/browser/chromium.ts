/**
 * A browser without a window, spoken to by its DevTools protocol over a WebSocket: pages that are opened, asked, pictured, and
 * what each of them requested. It resolves no names and uses no proxy, so that nothing leaves this machine.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../../src/base/clock.ts";

/** A first start under load, and one call of the protocol. */
const START_MS = 60_000;
const CALL_MS = 60_000;

type Fields = Record<string, unknown>;
interface Message {
  readonly id?: number;
  readonly sessionId?: string;
  readonly method?: string;
  readonly params?: Fields;
  readonly result?: Fields;
  readonly error?: { readonly message: string };
}

/** As root there is no sandbox of its own to be had; what it opens here is ours. */
const FLAGS = [
  ...["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"],
  ...["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"],
  ...["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--window-size=1280,1000"],
  "--remote-debugging-port=0",
];

/** Calls and their answers over one socket; events go to who listens to their session. */
class Wire {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, { resolve(result: Fields): void; reject(cause: Error): void }>();
  readonly #listeners = new Map<string, (method: string, params: Fields) => void>();
  #next = 1;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#take(JSON.parse(String(data)));
    socket.onclose = ({ code, reason }) => {
      const why = `the browser is gone: ${code} ${reason}`;
      for (const { reject } of this.#waiting.values()) reject(new Error(why));
      this.#waiting.clear();
    };
  }

  static async open(url: string): Promise<Wire> {
    // Compressed frames of Chromium's come out of the runtime broken now and then.
    const socket = new WebSocket(url, { perMessageDeflate: false } as never);
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = reject;
    });
    return new Wire(socket);
  }

  listen(session: string, listener: (method: string, params: Fields) => void): void {
    this.#listeners.set(session, listener);
  }

  call(method: string, params: Fields = {}, sessionId?: string): Promise<Fields> {
    const id = this.#next++;
    const { promise, resolve, reject } = Promise.withResolvers<Fields>();
    this.#waiting.set(id, { resolve, reject });
    const late = () => reject(new Error(`${method}: no answer within ${CALL_MS} ms`));
    const cancel = systemClock.after(CALL_MS, late, { background: true });
    this.#socket.send(JSON.stringify({ id, method, params, ...(sessionId === undefined ? {} : { sessionId }) }));
    return promise.finally(cancel);
  }

  close(): void {
    this.#socket.close();
  }

  #take({ id, sessionId, method, params, result, error }: Message): void {
    if (id === undefined) {
      if (method !== undefined) this.#listeners.get(sessionId ?? "")?.(method, params ?? {});
      return;
    }
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(result ?? {});
    else waiting?.reject(new Error(error.message));
  }
}

export class Page {
  readonly #wire: Wire;
  readonly #session: string;
  /** URLs that it asked for, those that were refused too; none of `data:` and `blob:`, which ask nobody. */
  readonly requested: string[] = [];
  /** What its console was told as an error, and what was thrown and not caught. */
  readonly errors: string[] = [];
  #loaded: () => void = () => undefined;

  constructor(wire: Wire, session: string) {
    this.#wire = wire;
    this.#session = session;
    wire.listen(session, (method, params) => this.#hear(method, params));
  }

  #hear(method: string, params: Fields): void {
    if (method === "Page.loadEventFired") this.#loaded();
    if (method === "Network.requestWillBeSent") {
      const { url } = params["request"] as { url: string };
      if (!/^(data|blob):/.test(url)) this.requested.push(url);
    }
    if (method === "Network.webSocketCreated") this.requested.push(String(params["url"]));
    if (method === "Runtime.exceptionThrown") this.errors.push(JSON.stringify(params["exceptionDetails"]));
    if (method === "Log.entryAdded") {
      const { level, text, url } = params["entry"] as { level: string; text: string; url?: string };
      if (level === "error") this.errors.push(`${text} ${url ?? ""}`.trim());
    }
  }

  /** Opens a URL and waits until it is loaded; what it does after that is awaited by what it shows. */
  async open(url: string): Promise<void> {
    for (const domain of ["Network", "Runtime", "Log", "Page"]) await this.#call(`${domain}.enable`);
    const loaded = new Promise<void>((resolve) => {
      this.#loaded = resolve;
    });
    const { errorText } = await this.#call("Page.navigate", { url });
    if (errorText !== undefined) throw new Error(`${url}: ${errorText}`);
    await loaded;
  }

  /** The value of an expression in the page, awaited. @throws what it throws there */
  async evaluate(expression: string): Promise<unknown> {
    const ask = { expression, awaitPromise: true, returnByValue: true, userGesture: true };
    const { result, exceptionDetails } = await this.#call("Runtime.evaluate", ask);
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails).slice(0, 2000));
    return (result as { value?: unknown }).value;
  }

  /** As by keys, into what has the focus. */
  async type(text: string): Promise<void> {
    await this.#call("Input.insertText", { text });
  }

  /** What it shows, as PNG. */
  async picture(): Promise<Uint8Array> {
    const { data } = await this.#call("Page.captureScreenshot", { format: "png" });
    return Buffer.from(String(data), "base64");
  }

  #call(method: string, params: Fields = {}): Promise<Fields> {
    return this.#wire.call(method, params, this.#session);
  }
}

export class Browser implements AsyncDisposable {
  readonly #wire: Wire;
  readonly #child: Bun.Subprocess;
  readonly #profile: string;

  private constructor(wire: Wire, child: Bun.Subprocess, profile: string) {
    this.#wire = wire;
    this.#child = child;
    this.#profile = profile;
  }

  static async launch(): Promise<Browser> {
    const profile = await mkdtemp(join(tmpdir(), "warren-browser-"));
    const argv = ["chromium", ...FLAGS, `--user-data-dir=${profile}`, "about:blank"];
    const child = Bun.spawn(argv, { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
    const cancel = systemClock.after(START_MS, () => child.kill("SIGKILL"), { background: true });
    try {
      return new Browser(await Wire.open(await debugUrl(child.stderr)), child, profile);
    } catch (cause) {
      child.kill("SIGKILL");
      await child.exited;
      await rm(profile, { recursive: true, force: true });
      throw cause;
    } finally {
      cancel();
    }
  }

  async page(url: string): Promise<Page> {
    const { targetId } = await this.#wire.call("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.#wire.call("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this.#wire, String(sessionId));
    await page.open(url);
    return page;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#wire.call("Browser.close").catch(() => undefined); // it ends in the middle of its answer
    const cancel = systemClock.after(START_MS, () => this.#child.kill("SIGKILL"), { background: true });
    await this.#child.exited;
    cancel();
    this.#wire.close();
    await rm(this.#profile, { recursive: true, force: true });
  }
}

/** Where it listens, which it says among other things; the rest of what it says is read and forgotten. */
async function debugUrl(stderr: ReadableStream<Uint8Array>): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  void (async () => {
    const decoder = new TextDecoder();
    let said = "";
    for await (const chunk of stderr) {
      said = (said + decoder.decode(chunk, { stream: true })).slice(-65_536);
      const url = /DevTools listening on (ws:\S+)/.exec(said)?.[1];
      if (url !== undefined) resolve(url);
    }
    reject(new Error(`chromium ended:\n${said}`));
  })();
  return promise;
}
