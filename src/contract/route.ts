/** What a row of the contract table is, and the interface that follows from the table. Types only. */
import type { Static, TObject, TSchema } from "@sinclair/typebox";
import type { ErrorCode } from "../errors.ts";

/** Raw bytes given by a caller: all at once or as they come. */
export type Body = Uint8Array | string | AsyncIterable<Uint8Array>;

/** What a key has to be allowed, to call an operation. `admin` includes all others, and rows about every account. */
export const SCOPES = [
  "sandbox:read",
  "sandbox:write",
  "template:read",
  "template:write",
  "account:read",
  "account:write",
  "billing:read",
  "admin",
] as const;
export type Scope = (typeof SCOPES)[number];

/** One operation. Keys of `input` named in `path` travel in the path; the rest in the query for GET and DELETE and uploads, else in the body. */
export interface Route {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: `/${string}`;
  readonly scope: Scope;
  /** Other paths of the same operation. */
  readonly aliases?: readonly `/${string}`[];
  /** HTTP status of success; default 200, and 204 of what returns nothing. */
  readonly status?: 200 | 201 | 202;
  readonly says: string;
  readonly input: TObject;
  /** The body is raw bytes, streamed. */
  readonly upload?: true;
  /** `socket`: a WebSocket, which only the API has. An upload that returns bytes is one as well, on the wire. */
  readonly returns: TSchema | "nothing" | "bytes" | "socket" | { readonly events: TSchema };
  readonly errors: readonly ErrorCode[];
}
export type Contract = Readonly<Record<string, Route>>;

export type Input<R extends Route> = Static<R["input"]> &
  (R extends { upload: true } ? { readonly body: Body } : unknown);
export type Output<R extends Route> = R["returns"] extends "nothing"
  ? Promise<void>
  : R["returns"] extends "bytes"
    ? Promise<AsyncIterable<Uint8Array>>
    : R["returns"] extends { readonly events: infer E extends TSchema }
      ? Promise<AsyncIterable<Static<E>>>
      : R["returns"] extends TSchema
        ? Promise<Static<R["returns"]>>
        : never;

export interface CallOptions {
  /** Ends the call; for streams, ends what the call started. */
  readonly signal?: AbortSignal;
  /**
   * Of a create or a fork in this process: told each sandbox's id and size in the instant that it has its place and begins to
   * be made. Whoever has to write it down does so while it is restored; aborting `signal` then leaves nothing of it.
   */
  readonly began?: (id: string, size: SandboxSize) => void;
}

/** What a sandbox takes of its account's quota, and what it was made of. */
export interface SandboxSize {
  readonly template: string;
  readonly cpu: number;
  readonly memoryMb: number;
}

/** The one interface: the engine implements it, the HTTP client implements it, the API mounts it, a handle holds it. */
export type Calls<C extends Contract> = {
  readonly [K in keyof C as C[K]["returns"] extends "socket" ? never : K]: (
    input: Input<C[K]>,
    options?: CallOptions,
  ) => Output<C[K]>;
};
