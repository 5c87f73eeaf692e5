/** Programmer errors: asserted in production too, because a wrong assumption near guests must stop, not spread. */

/** @throws {Error} when `condition` is false: a bug of ours, never a caller's mistake. */
export function assert(condition: boolean, says: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${says}`);
}

/** For the end of an exhaustive switch. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${String(value)}`);
}
