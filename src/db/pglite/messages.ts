/** What the thread of the embedded database is asked, and answers. Types only. */
import type { Statement } from "../driver.ts";

/** The first is `make`, of a thread that is then ended, or `open`; each is answered under its number. */
export type Ask =
  /** `folder` gets a database in it, unless it has one. */
  | { readonly kind: "make"; readonly folder: string; readonly compiled: boolean }
  | { readonly kind: "open"; readonly folder: string; readonly compiled: boolean }
  | { readonly kind: "query"; readonly statement: Statement }
  /** All or none; in one message, since nothing else may come between on the only connection. */
  | { readonly kind: "script"; readonly text: string }
  | { readonly kind: "close" };

export type Numbered = Ask & { readonly number: number };

export type Answer =
  | { readonly number: number; readonly kind: "rows"; readonly rows: unknown[][] }
  | { readonly number: number; readonly kind: "failed"; readonly code: string; readonly message: string };
