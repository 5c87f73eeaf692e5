/**
 * PostgreSQL 15 or newer over the network. Few connections, each statement with a deadline on both sides; what breaks is
 * told as `store_unavailable` and made again with the next statement.
 */
import postgres from "postgres";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { WarrenError } from "../errors.ts";
import type { Driver, Parameter, Statement } from "./driver.ts";
import { failureOf, toldOf } from "./failure.ts";

/** Statements are short: more connections than these only wait for the same locks. */
const CONNECTIONS = 8;
const CONNECT_SECONDS = 5;
/** The server ends a statement after so long; a little later we stop waiting for it. */
const STATEMENT_MS = 10_000;
const ANSWER_MS = 12_000;
/** A migration rewrites tables, or waits for another server's. */
const MIGRATION_MS = 600_000;
const IDLE_SECONDS = 300;
/** Between two tries to listen again, at first and at most. */
const LISTEN_RETRY_MS = 200;
const LISTEN_RETRY_MAX_MS = 5_000;
/** Any number: it only has to be the same in every Warren. */
const MIGRATION_LOCK = 7_287_036_221;
const CHANNEL = "warren_keys";

/** `timestamptz`, `date`, `time`, `interval`, `numeric`, `bigint`, `json`, `jsonb` and arrays of text stay as they are written. */
const AS_WRITTEN = [1082, 1083, 1114, 1184, 1186, 1700, 20, 114, 3802, 1009];
const written = {
  to: 25,
  from: AS_WRITTEN,
  serialize: (value: unknown) => String(value),
  parse: (text: string) => text,
};

type Client = ReturnType<typeof connect>;
interface Parts {
  readonly clock: Clock;
  readonly log: Log;
}

/** @throws {WarrenError} `invalid_request` – `url` is none of a PostgreSQL database */
export function openPostgres(url: string, parts: Parts): Driver {
  return new PostgresDriver(url, parts);
}

interface Wanted {
  readonly connections: number;
  readonly statementMs: number;
  /** The connection stays open, and tells of these. */
  readonly listens?: { readonly told: () => void; readonly closed: () => void };
}

function connect(url: string, { connections, statementMs, listens }: Wanted) {
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
    onnotice: () => {},
    connection: {
      application_name: "warren",
      TimeZone: "UTC",
      DateStyle: "ISO",
      statement_timeout: statementMs,
      idle_in_transaction_session_timeout: statementMs,
    },
    types: { written },
  });
}

class PostgresDriver implements Driver {
  readonly kind = "postgres";
  readonly note = null;
  readonly #url: string;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #client: Client;
  #listening: Client | null = null;
  readonly #closed = new AbortController();

  constructor(url: string, { clock, log }: Parts) {
    this.#url = url;
    this.#clock = clock;
    this.#log = log;
    this.#client = connect(url, { connections: CONNECTIONS, statementMs: STATEMENT_MS });
  }

  query(statement: Statement): Promise<unknown[][]> {
    return this.#within(ANSWER_MS, this.#client, statement);
  }

  together(statements: readonly Statement[]): Promise<void> {
    return this.#together(ANSWER_MS, this.#client, statements);
  }

  async alone(job: (driver: Pick<Driver, "query" | "together">) => Promise<void>): Promise<void> {
    const client = connect(this.#url, { connections: 1, statementMs: MIGRATION_MS });
    const one = {
      query: (statement: Statement) => this.#within(MIGRATION_MS, client, statement),
      together: (statements: readonly Statement[]) => this.#together(MIGRATION_MS, client, statements),
    };
    try {
      // Of the session, which ends with the client.
      await one.query({ text: "select pg_advisory_lock($1)", parameters: [MIGRATION_LOCK] });
      await job(one);
    } finally {
      await client.end({ timeout: 1 });
    }
  }

  async onKeysChanged(listener: () => void): Promise<void> {
    await this.#listen(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort();
    const ends = [this.#client, this.#listening].map((client) => client?.end({ timeout: 2 }));
    await Promise.allSettled(ends);
  }

  async #within(deadlineMs: number, client: Client, { text, parameters }: Statement): Promise<unknown[][]> {
    const pending = client.unsafe(text, parameters as Parameter[], { prepare: true }).values();
    return await this.#deadline(deadlineMs, pending, () => pending.cancel());
  }

  async #together(deadlineMs: number, client: Client, statements: readonly Statement[]): Promise<void> {
    const done = client.begin(async (transaction) => {
      for (const { text, parameters } of statements) await transaction.unsafe(text, parameters as Parameter[]);
    });
    await this.#deadline(deadlineMs, done, () => {});
  }

  #deadline<T>(deadlineMs: number, pending: PromiseLike<T>, giveUp: () => void): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const cancel = this.#clock.after(
        deadlineMs,
        () => {
          giveUp();
          reject(toldOf({ code: "deadline", message: `no answer within ${deadlineMs} ms` }));
        },
        { background: true },
      );
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

  /** Listens on a connection of its own, and again whenever that has broken: what was missed meanwhile is told as a change. */
  async #listen(listener: () => void): Promise<void> {
    const closed = (): void => {
      if (this.#listening !== client || this.#closed.signal.aborted) return;
      this.#listening = null;
      listener();
      void this.#listenAgain(listener, client);
    };
    const client = connect(this.#url, {
      connections: 1,
      statementMs: STATEMENT_MS,
      listens: { told: listener, closed },
    });
    try {
      await this.#deadline(ANSWER_MS, client.unsafe(`listen ${CHANNEL}`), () => {});
      this.#listening = client;
    } catch (cause) {
      void client.end({ timeout: 0 });
      throw cause;
    }
    if (this.#closed.signal.aborted) await client.end({ timeout: 0 });
  }

  async #listenAgain(listener: () => void, broken: Client): Promise<void> {
    void broken.end({ timeout: 0 });
    for (
      let delayMs = LISTEN_RETRY_MS;
      !this.#closed.signal.aborted;
      delayMs = Math.min(2 * delayMs, LISTEN_RETRY_MAX_MS)
    ) {
      try {
        await this.#listen(listener);
        listener();
        return;
      } catch (cause) {
        this.#log.debug("not listening for changed keys yet", {
          cause: String(cause instanceof Error ? cause.cause : cause),
        });
        await this.#clock.sleep(delayMs, this.#closed.signal).catch(() => undefined); // closed: the loop ends
      }
    }
  }
}
