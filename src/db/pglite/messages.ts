/** What the thread of the embedded database is asked, and answers. Types only. */
import type { Statement } from "../driver.ts";

/** The first is `open`; each is answered under its number. */
export type Ask =
  /** `folder` holds the lock and the data. */
  | { readonly kind: "open"; readonly folder: string; readonly compiled: boolean }
  | { readonly kind: "query"; readonly statement: Statement }
  /** All or none; in one message, since nothing else may come between on the only connection. */
  | { readonly kind: "script"; readonly text: string }
  | { readonly kind: "close" };

export type Numbered = Ask & { readonly number: number };

export type Answer =
  | { readonly number: number; readonly kind: "rows"; readonly rows: unknown[][] }
  /** Another process has the folder. */
  | { readonly number: number; readonly kind: "taken" }
  | { readonly number: number; readonly kind: "failed"; readonly code: string; readonly message: string };
