/**
 * Connections to a PostgreSQL by the package `postgres`, set so that values come as they are written, no session differs
 * from another, and a statement is over on the server's side too when nobody waits for it any more.
 */
import postgres from "postgres";
import type { Clock } from "../../base/clock.ts";
import { WarrenError } from "../../errors.ts";
import { failureOf, toldOf } from "../failure.ts";

const CONNECT_SECONDS = 5;
const IDLE_SECONDS = 300;
/** Between two tries of one connection, which only a statement sets off; the package's own pause grows to 20 s. */
const RECONNECT_SECONDS = 0.2;
export const CHANNEL = "warren_keys";

/** `timestamptz`, `date`, `time`, `interval`, `numeric`, `bigint`, `json`, `jsonb` and arrays of text stay as they are written. */
const AS_WRITTEN = [1082, 1083, 1114, 1184, 1186, 1700, 20, 114, 3802, 1009];
const written = {
  to: 25,
  from: AS_WRITTEN,
  serialize: (value: unknown) => String(value),
  parse: (text: string) => text,
};

export type Client = ReturnType<typeof connect>;

interface Wanted {
  readonly connections: number;
  readonly statementMs: number;
  /** The connection stays open, and tells of these. */
  readonly listens?: { readonly told: () => void; readonly closed: () => void };
}

/** @throws {WarrenError} `invalid_request` – `url` is none of a PostgreSQL database */
export function connect(url: string, { connections, statementMs, listens }: Wanted) {
  if (!/^postgres(ql)?:\/\//.test(url) || !URL.canParse(url)) {
    throw new WarrenError(
      "invalid_request",
      "a database's URL has to be like postgres://user:password@example.com:5432/warren",
    );
  }
  return postgres(url, {
    max: connections,
    connect_timeout: CONNECT_SECONDS,
    ...(listens === undefined
      ? { idle_timeout: IDLE_SECONDS }
      : {
          idle_timeout: 0,
          max_lifetime: null,
          onnotify: (channel: string) => (channel === CHANNEL ? listens.told() : undefined),
          onclose: listens.closed,
        }),
    fetch_types: false,
    backoff: () => RECONNECT_SECONDS,
    onnotice: () => {},
    connection: {
      application_name: "warren",
      search_path: "public",
      TimeZone: "UTC",
      DateStyle: "ISO",
      // Statements here are short: a report over empty tables took 1 ms, and 4.5 s to be compiled before.
      jit: "off",
      statement_timeout: statementMs,
      idle_in_transaction_session_timeout: statementMs,
    },
    types: { written },
  });
}

/**
 * What `pending` comes to, if it does so in time.
 * @throws {WarrenError} `store_unavailable`, `internal`
 */
export function within<T>(deadlineMs: number, clock: Clock, pending: PromiseLike<T>): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const late = () => reject(toldOf({ code: "deadline", message: `no answer within ${deadlineMs} ms` }));
    const cancel = clock.after(deadlineMs, late, { background: true });
    pending.then(
      (value) => {
        cancel();
        resolve(value);
      },
      (cause) => {
        cancel();
        reject(toldOf(failureOf(cause)));
      },
    );
  });
}

/** Ends it without waiting for its end; what is under way gets `graceMs`. */
export function leave(client: Client, graceMs = 0): void {
  void client.end({ timeout: graceMs / 1000 }).catch(() => undefined); // what it was still asked has failed by itself
}
