/**
 * What is told of a database's failure: `store_unavailable` when it may do later what it could not now, `internal` when it
 * refuses what it was asked; and as cause its SQLSTATE, with its words where those hold no values. Statements and
 * parameters have customers' environments and secrets in them: they go nowhere.
 */
import { isWarrenError, WarrenError } from "../errors.ts";

/** Classes of SQLSTATE that the same statement meets every time: values, constraints, a statement or a schema of another version. */
const REFUSED = /^(0A|21|22|23|42|54)[0-9A-Z]{3}$/;
/** Classes of SQLSTATE whose messages name objects and conditions, never values: connections, syntax and names, resources, operators, systems. */
const TOLD = /^(08|25|28|3D|40|42|53|54|55|57|58|XX)/;

export interface Failure {
  /** SQLSTATE, or a name of the runtime's such as `ECONNREFUSED`. */
  readonly code: string;
  readonly message: string;
}

/** Of whatever was thrown: the driver's error below those that were put around it. */
export function failureOf(thrown: unknown): Failure {
  let error: unknown = thrown;
  for (let depth = 0; depth < 4 && error instanceof Error && !("code" in error) && error.cause !== undefined; depth++) {
    error = error.cause;
  }
  const code = error instanceof Error && "code" in error ? String(error.code) : "unknown";
  const told = /^[0-9A-Z]{5}$/.test(code) ? TOLD.test(code) : code !== "unknown";
  return { code, message: told && error instanceof Error ? error.message : "not told, as it may hold values" };
}

/** What a caller is told of it. */
export function toldOf(failure: Failure): WarrenError {
  const cause = new Error(`${failure.code}: ${failure.message}`);
  if (REFUSED.test(failure.code))
    return new WarrenError("internal", "the database refused what it was asked", { cause });
  return new WarrenError("store_unavailable", "the database cannot be reached, or does not answer; try again", {
    cause,
  });
}

/** The error of ours in whatever was thrown, or one that hides it. */
export function hidden(thrown: unknown): WarrenError {
  for (let error = thrown; error instanceof Error; error = error.cause) if (isWarrenError(error)) return error;
  return toldOf(failureOf(thrown));
}
