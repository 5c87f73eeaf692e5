/** What the database's functions are told of how things are counted. */
import { UNBOOKED_MS } from "../../api/store.ts";
import { asJson } from "../database.ts";

/** JSON text. */
export const RULES = asJson({ unbooked_ms: UNBOOKED_MS });
