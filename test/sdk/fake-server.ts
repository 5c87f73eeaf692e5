/** A server on loopback that answers what a test says, and keeps what it was asked. */
import { type Client, type ConnectOptions, connect } from "../../src/client.ts";

export interface Asked {
  readonly method: string;
  readonly url: URL;
  readonly headers: Headers;
  /** Read to its end, unless the answer came before. */
  readonly body: Uint8Array;
}

type Answering = (asked: Asked, times: number) => Response | Promise<Response>;

export interface FakeServer extends AsyncDisposable {
  readonly url: string;
  readonly client: Client;
  readonly asked: Asked[];
  /** Another client of it. */
  connect(options?: ConnectOptions): Client;
}

export const KEY = "wrn_key-of-a-test";

/** `answer` is told how often it was asked before. */
export function fakeServer(answer: Answering, options: ConnectOptions = {}): FakeServer {
  const asked: Asked[] = [];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 0,
    async fetch(request) {
      const { method, headers } = request;
      const one = { method, headers, url: new URL(request.url), body: await request.bytes() };
      asked.push(one);
      return answer(one, asked.length - 1);
    },
  });
  const url = `http://127.0.0.1:${server.port}`;
  const connected = (more: ConnectOptions = {}) => connect({ url, key: KEY, ...options, ...more });
  return {
    url,
    client: connected(),
    asked,
    connect: connected,
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

/** Events as the API sends them. */
export function eventStream(blocks: readonly { readonly event: string; readonly data: unknown }[]): Response {
  const text = blocks.map(({ event, data }) => `: ping\n\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`).join("");
  return new Response(text, { headers: { "content-type": "text/event-stream; charset=utf-8" } });
}

export async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of stream) items.push(item);
  return items;
}
