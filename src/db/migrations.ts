/**
 * The migrations in the order that they are applied in, as part of the program: a binary has no folder to read them from.
 * A new one is made by `drizzle-kit`, which writes it into the journal, and named here; a test holds the two to each other.
 */
import begin from "../../migrations/0000_begin.sql" with { type: "text" };
import functions from "../../migrations/0001_functions.sql" with { type: "text" };
import billing from "../../migrations/0002_billing.sql" with { type: "text" };
import ledger from "../../migrations/0003_ledger.sql" with { type: "text" };
import books from "../../migrations/0004_books.sql" with { type: "text" };
import journal from "../../migrations/meta/_journal.json" with { type: "json" };

const TEXTS: Readonly<Record<string, string>> = {
  "0000_begin": begin,
  "0001_functions": functions,
  "0002_billing": billing,
  "0003_ledger": ledger,
  "0004_books": books,
};

export interface Migration {
  readonly tag: string;
  /** When it was made, milliseconds since the Unix epoch: by which the database knows what it has. */
  readonly madeMs: number;
  readonly text: string;
}

export const MIGRATIONS: readonly Migration[] = journal.entries.map(({ tag, when }) => {
  const text = TEXTS[tag];
  if (text === undefined) throw new Error(`migration ${tag} is in the journal and not in the program`);
  return { tag, madeMs: when, text };
});
