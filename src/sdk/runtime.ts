/**
 * What each runtime has for requests and WebSockets: Bun and browsers their own, Node the undici package, as its built-in copy
 * of it ends a stream that is silent for five minutes. Nothing of Node is imported by name, so that bundles for browsers hold none.
 */

/** `fetch`, as far as a client uses it. */
export type Fetch = (url: string, init: RequestInit & { readonly duplex?: "half" }) => Promise<Response>;

export interface Runtime {
  readonly fetch: Fetch;
  /** The body of a request may be a stream. */
  readonly streamsUploads: boolean;
  /** Null: there are no WebSockets here. Where headers cannot be set, the key travels in the query. */
  readonly socket: {
    readonly takesHeaders: boolean;
    open(url: string, headers: Readonly<Record<string, string>>): WebSocket;
  } | null;
}

/** Of undici, what is used. */
interface Undici {
  readonly Agent: new (options: object) => object;
  readonly fetch: (url: string, init: object) => Promise<Response>;
  readonly WebSocket: new (url: string, options: object) => WebSocket;
}

/** Time for a connection to be made, on Node; Bun and browsers have their own. */
const CONNECT_MS = 10_000;

const inBun = (): boolean => "Bun" in globalThis;

function inNode(): boolean {
  const { process } = globalThis as { process?: { versions?: { node?: string } } };
  return !inBun() && typeof process?.versions?.node === "string";
}

/** A page or a worker of a browser. */
const inBrowser = (): boolean => "document" in globalThis || "importScripts" in globalThis;

type HeaderSocket = new (url: string, options: object) => WebSocket;

async function onNode(): Promise<Runtime> {
  const name = "undici"; // not a literal in the import: bundles for browsers would look for it
  let undici: Undici;
  try {
    undici = (await import(name)) as Undici;
  } catch {
    // Bundled without it: Node's own has bounds that only streams without heartbeats meet, and no WebSocket before Node 22.
    return standard();
  }
  const { Agent, fetch, WebSocket } = undici;
  const dispatcher = new Agent({ headersTimeout: 0, bodyTimeout: 0, connect: { timeout: CONNECT_MS } });
  return {
    fetch: (url, init) => fetch(url, { ...init, dispatcher }),
    streamsUploads: true,
    socket: { takesHeaders: true, open: (url, headers) => new WebSocket(url, { headers, dispatcher }) },
  };
}

/** What the standard says that there is. */
function standard(): Runtime {
  const { WebSocket: Socket } = globalThis as { WebSocket?: new (url: string) => WebSocket };
  return {
    fetch: (url, init) => globalThis.fetch(url, init),
    streamsUploads: !inBrowser(),
    socket: Socket === undefined ? null : { takesHeaders: false, open: (url) => new Socket(url) },
  };
}

function onBun(): Runtime {
  // The runtime takes options in place of the protocols; the standard's types do not know.
  const Socket = globalThis.WebSocket as unknown as HeaderSocket;
  const untimed = { timeout: false }; // its own is five minutes without a byte: a create may wait longer for its turn
  return {
    ...standard(),
    fetch: (url, init) => globalThis.fetch(url, { ...init, ...untimed }),
    socket: { takesHeaders: true, open: (url, headers) => new Socket(url, { headers }) },
  };
}

/** The runtime of this process. `own` stands in for its `fetch`. */
export async function runtimeOf(own?: Fetch): Promise<Runtime> {
  const runtime = inBun() ? onBun() : inNode() ? await onNode() : standard();
  return own === undefined ? runtime : { ...runtime, fetch: own };
}
