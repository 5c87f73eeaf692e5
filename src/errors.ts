/**
 * Every error a caller can see: one class, one table of codes.
 * Adding a code here is the only step; tables keyed by `ErrorCode` (HTTP status, exit code) then refuse to compile without it.
 */

/** Whose fault a code is: decides the log level, the CLI's exit code and whether a client may retry. */
export type Fault = "caller" | "state" | "capacity" | "host" | "guest" | "ours";

/** `code` → whose fault it is, and whether the same call may succeed later without a change by the caller. */
export const ERRORS = {
  invalid_request: { fault: "caller", retry: false },
  not_found: { fault: "caller", retry: false },
  template_not_found: { fault: "caller", retry: false },
  already_exists: { fault: "caller", retry: false },
  file_not_found: { fault: "caller", retry: false },
  file_error: { fault: "caller", retry: false },
  process_not_found: { fault: "caller", retry: false },
  context_not_found: { fault: "caller", retry: false },
  wrong_state: { fault: "state", retry: false },
  unsupported: { fault: "caller", retry: false },
  cancelled: { fault: "caller", retry: false },
  capacity_exhausted: { fault: "capacity", retry: true },
  queue_full: { fault: "capacity", retry: true },
  create_timeout: { fault: "capacity", retry: true },
  storage_exhausted: { fault: "host", retry: true },
  host_unsupported: { fault: "host", retry: false },
  permission_denied: { fault: "host", retry: false },
  template_invalid: { fault: "host", retry: true },
  bake_failed: { fault: "host", retry: true },
  snapshot_in_use: { fault: "state", retry: true },
  snapshot_invalid: { fault: "host", retry: false },
  volume_in_use: { fault: "state", retry: true },
  sandbox_lost: { fault: "guest", retry: true },
  guest_protocol: { fault: "guest", retry: false },
  guest_unresponsive: { fault: "guest", retry: true },
  driver_failed: { fault: "ours", retry: true },
  internal: { fault: "ours", retry: false },
  /** Of the API alone, from here on. */
  unauthorized: { fault: "caller", retry: false },
  forbidden: { fault: "caller", retry: false },
  out_of_credit: { fault: "caller", retry: false },
  quota_exceeded: { fault: "caller", retry: true },
  rate_limited: { fault: "caller", retry: true },
  idempotency_conflict: { fault: "caller", retry: false },
  too_large: { fault: "caller", retry: false },
  range_not_satisfiable: { fault: "caller", retry: false },
  method_not_allowed: { fault: "caller", retry: false },
  exec_timeout: { fault: "guest", retry: false },
  template_baking: { fault: "capacity", retry: true },
  store_unavailable: { fault: "host", retry: true },
  shutting_down: { fault: "capacity", retry: true },
  /** Of a client alone: the server could not be reached, or was lost in the middle. What it did meanwhile is not known. */
  connection_failed: { fault: "host", retry: true },
} as const satisfies Record<string, { fault: Fault; retry: boolean }>;

export type ErrorCode = keyof typeof ERRORS;

export interface ErrorOptions {
  /** Machine-readable facts for the caller: the field, what came, what is allowed. Serialised. */
  readonly details?: Readonly<Record<string, unknown>>;
  /** Ours alone, never serialised. */
  readonly cause?: unknown;
}

/**
 * The one error class of the public interface.
 * `message` is for the caller: what happened, to what, what to do about it.
 */
export class WarrenError extends Error {
  override readonly name = "WarrenError";
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
  }

  get fault(): Fault {
    return ERRORS[this.code].fault;
  }

  /** True when the same call may succeed later. */
  get retry(): boolean {
    return ERRORS[this.code].retry;
  }

  /** What may leave the process: never the cause, never the stack. */
  toJSON(): { code: ErrorCode; message: string; details: Readonly<Record<string, unknown>> } {
    return { code: this.code, message: this.message, details: this.details };
  }
}

/** True for a `WarrenError`, of this code when one is given. */
export function isWarrenError(error: unknown, code?: ErrorCode): error is WarrenError {
  return error instanceof WarrenError && (code === undefined || error.code === code);
}
