/**
 * PostgreSQL 15 or newer over the network. Few connections, each statement with a deadline on both sides; what breaks is
 * told as `store_unavailable` and made again with the next statement.
 */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { isWarrenError } from "../errors.ts";
import type { Driver, Parameter, Statement } from "./driver.ts";
import { type Client, connect, leave, within } from "./postgres/client.ts";
import { Listener } from "./postgres/listener.ts";

/** Statements are short: more connections than these only wait for the same locks. */
const CONNECTIONS = 8;
/** The server ends a statement after so long; a little later we stop waiting for it. */
const STATEMENT_MS = 10_000;
const ANSWER_MS = 12_000;
/** A migration rewrites tables, or waits for another server's. */
const MIGRATION_MS = 600_000;
const CLOSE_SECONDS = 2;
/** Any number: it only has to be the same in every Warren. */
const MIGRATION_LOCK = 7_287_036_221;

interface Parts {
  readonly clock: Clock;
  readonly log: Log;
}

/** @throws {WarrenError} `invalid_request` – `url` is none of a PostgreSQL database */
export function openPostgres(url: string, parts: Parts): Driver {
  return new PostgresDriver(url, parts);
}

class PostgresDriver implements Driver {
  readonly kind = "postgres";
  readonly note = null;
  readonly #url: string;
  readonly #clock: Clock;
  readonly #log: Log;
  #client: Client;
  #listener: Listener | null = null;

  constructor(url: string, { clock, log }: Parts) {
    this.#url = url;
    this.#clock = clock;
    this.#log = log;
    this.#client = this.#connect();
  }

  async query(statement: Statement): Promise<unknown[][]> {
    const client = this.#client;
    try {
      return await within(ANSWER_MS, this.#clock, ask(client, statement));
    } catch (cause) {
      if (broken(cause)) this.#replace(client);
      throw cause;
    }
  }

  async script(text: string): Promise<void> {
    // Several statements in one message are one transaction, which cannot be half done when the connection ends.
    await within(ANSWER_MS, this.#clock, this.#client.unsafe(text));
  }

  async alone(job: (driver: Pick<Driver, "query" | "script">) => Promise<void>): Promise<void> {
    const client = connect(this.#url, { connections: 1, statementMs: MIGRATION_MS });
    const one = {
      query: (statement: Statement) => within(MIGRATION_MS, this.#clock, ask(client, statement)),
      script: async (text: string) => {
        await within(MIGRATION_MS, this.#clock, client.unsafe(text));
      },
    };
    try {
      // Of the session, which ends with the client.
      await one.query({ text: "select pg_advisory_lock($1)", parameters: [MIGRATION_LOCK] });
      await job(one);
    } finally {
      leave(client, CLOSE_SECONDS * 1000);
    }
  }

  /** A server has processes for that. */
  async tidy(): Promise<void> {}

  async onKeysChanged(told: () => void): Promise<void> {
    this.#listener = new Listener({ url: this.#url, clock: this.#clock, log: this.#log, told });
    await this.#listener.listen();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener?.[Symbol.dispose]();
    await this.#client.end({ timeout: CLOSE_SECONDS });
  }

  #connect(): Client {
    return connect(this.#url, { connections: CONNECTIONS, statementMs: STATEMENT_MS });
  }

  /**
   * New connections in the place of all, when one of them has broken: the package's own is not as new when it connects again
   * (what it was last told by the server fails its next statement). What the others are asked goes on.
   */
  #replace(client: Client): void {
    if (this.#client !== client) return; // another statement has seen it too
    this.#client = this.#connect();
    leave(client, ANSWER_MS);
  }
}

function ask(client: Client, { text, parameters }: Statement): PromiseLike<unknown[][]> {
  return client.unsafe(text, parameters as Parameter[], { prepare: true }).values();
}

/** The server has ended it, nothing comes from it, or there is none: not what a statement alone has met. */
function broken(thrown: unknown): boolean {
  const cause = isWarrenError(thrown, "store_unavailable") && thrown.cause instanceof Error ? thrown.cause.message : "";
  const [code = ""] = cause.split(":");
  return code !== "" && !/^(40|53|55|58|XX)[0-9A-Z]{3}$|^57014$/.test(code);
}
