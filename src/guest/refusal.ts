/** A guest's refusal as the caller sees it. The text comes from the guest: shown escaped by whoever shows it. */
import { type ErrorCode, WarrenError } from "../errors.ts";
import { GuestRefusal } from "./call.ts";

/** Linux error numbers, the ones that file calls and commands come back with. */
const NAMES: Readonly<Record<number, string>> = {
  1: "EPERM",
  2: "ENOENT",
  3: "ESRCH",
  5: "EIO",
  11: "EAGAIN",
  12: "ENOMEM",
  13: "EACCES",
  16: "EBUSY",
  17: "EEXIST",
  18: "EXDEV",
  20: "ENOTDIR",
  21: "EISDIR",
  22: "EINVAL",
  24: "EMFILE",
  25: "ENOTTY",
  26: "ETXTBSY",
  27: "EFBIG",
  28: "ENOSPC",
  30: "EROFS",
  32: "EPIPE",
  36: "ENAMETOOLONG",
  39: "ENOTEMPTY",
  40: "ELOOP",
  95: "EOPNOTSUPP",
  105: "ENOBUFS",
  110: "ETIMEDOUT",
  114: "EALREADY",
  122: "EDQUOT",
  125: "ECANCELED",
};

const TEXT_MAX = 4096;

/** By error number; what is not here is the fallback. */
export type Meaning = Readonly<Record<number, ErrorCode>>;

/** For requests on files. */
export const FILE_MEANING: Meaning = { 2: "file_not_found", 20: "file_not_found" };
/** For requests on commands. */
export const PROCESS_MEANING: Meaning = {
  3: "process_not_found",
  22: "wrong_state",
  25: "wrong_state",
  32: "wrong_state",
  95: "unsupported",
  105: "wrong_state",
};

/** Any failure of a request as the one error class; what is no refusal stays what it is. */
export function refused(cause: unknown, meaning: Meaning = {}, fallback: ErrorCode = "invalid_request"): unknown {
  if (!(cause instanceof GuestRefusal)) return cause;
  const errno = NAMES[cause.errno] ?? `errno ${cause.errno}`;
  const says = cause.message === "" ? `the guest refused: ${errno}` : cause.message.slice(0, TEXT_MAX);
  return new WarrenError(meaning[cause.errno] ?? fallback, says, { details: { errno } });
}
