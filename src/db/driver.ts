/**
 * What the store needs of a database: statements with parameters, several as one, and to hear that keys have changed.
 * Two have it: PostgreSQL over the network, and PGlite in a thread of this process. Values come as PostgreSQL writes them,
 * so that both tell the same: numbers and booleans as such, whatever else as text.
 */

/** What a statement may be given: JSON and arrays are text by then. */
export type Parameter = string | number | boolean | null;

export interface Statement {
  readonly text: string;
  readonly parameters: readonly Parameter[];
}

export interface Driver extends AsyncDisposable {
  readonly kind: "pglite" | "postgres";
  /** What a user has to know of it; null: nothing. */
  readonly note: string | null;
  /** Rows as arrays, in the order of their columns. Rejects with a `WarrenError` that tells nothing of the parameters. */
  query(statement: Statement): Promise<unknown[][]>;
  /** Statements without parameters, all of them or none. */
  script(text: string): Promise<void>;
  /** Clears tables of what was deleted, and looks at what is in them, where the database does not do so by itself. */
  tidy(tables: readonly string[]): Promise<void>;
  /** Runs `job` while no other server runs one, on a connection of its own; for migrations. */
  alone(job: (driver: Pick<Driver, "query" | "script">) => Promise<void>): Promise<void>;
  /**
   * Calls `listener` when another server has changed keys or accounts, and when such news may have been missed.
   * Resolves when it listens.
   */
  onKeysChanged(listener: () => void): Promise<void>;
}
