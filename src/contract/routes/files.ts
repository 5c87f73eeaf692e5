/** Files in a sandbox: absolute guest paths; nothing here can name anything outside the guest. */
import { type Static, Type } from "@sinclair/typebox";
import { LIMITS } from "../../limits.ts";
import type { Contract } from "../route.ts";

const Id = Type.String({ minLength: 1, maxLength: 64 });
export const GuestPath = Type.String({ pattern: "^/[^\\u0000]*$", maxLength: LIMITS.pathBytes });
const FileAt = Type.Object({ id: Id, path: GuestPath }, { additionalProperties: false });
const Mode = Type.Integer({ minimum: 0, maximum: 0o7777 });

export const FileInfo = Type.Object({
  /** Last component; U+FFFD stands for bytes that are not UTF-8, and `nameBase64` then has the exact ones. */
  name: Type.String(),
  nameBase64: Type.Optional(Type.String()),
  path: Type.String(),
  type: Type.Union([Type.Literal("file"), Type.Literal("directory"), Type.Literal("symlink"), Type.Literal("other")]),
  size: Type.Integer(),
  /** Permission bits, for instance 0o644. */
  mode: Type.Integer(),
  uid: Type.Integer(),
  gid: Type.Integer(),
  /** Seconds since the Unix epoch, fractional. */
  mtime: Type.Number(),
  symlinkTarget: Type.Optional(Type.String()),
});
export type FileInfo = Static<typeof FileInfo>;

export const WatchEvent = Type.Union([
  /** Changes from here on are told. */
  Type.Object({ kind: Type.Literal("ready") }),
  Type.Object({
    kind: Type.Union([
      Type.Literal("created"),
      Type.Literal("modified"),
      Type.Literal("removed"),
      /** Permissions, owner or times. */
      Type.Literal("attributes"),
    ]),
    /** U+FFFD stands for bytes that are not UTF-8, and `pathBase64` then has the exact ones. */
    path: Type.String(),
    pathBase64: Type.Optional(Type.String()),
    directory: Type.Boolean(),
  }),
  /** More changed than could be told: look for yourself. */
  Type.Object({ kind: Type.Literal("overflow") }),
]);
export type WatchEvent = Static<typeof WatchEvent>;

const fileErrors = [
  "invalid_request",
  "not_found",
  "file_not_found",
  "file_error",
  "wrong_state",
  "sandbox_lost",
  "guest_unresponsive",
] as const;

export const fileRoutes = {
  readFile: {
    method: "GET",
    path: "/v1/sandboxes/:id/fs",
    scope: "sandbox:read",
    says: "Read a regular file, whole or a range",
    input: Type.Object(
      {
        id: Id,
        path: GuestPath,
        offset: Type.Optional(Type.Integer({ minimum: 0 })),
        length: Type.Optional(Type.Integer({ minimum: 0 })),
      },
      { additionalProperties: false },
    ),
    returns: "bytes",
    errors: fileErrors,
  },
  writeFile: {
    method: "PUT",
    path: "/v1/sandboxes/:id/fs",
    scope: "sandbox:write",
    says: "Write a file of any size; it appears whole or not at all, parents are made",
    input: Type.Object({ id: Id, path: GuestPath, mode: Type.Optional(Mode) }, { additionalProperties: false }),
    upload: true,
    returns: FileInfo,
    errors: fileErrors,
  },
  stat: {
    method: "GET",
    path: "/v1/sandboxes/:id/fs/stat",
    scope: "sandbox:read",
    says: "One entry, symlinks not followed",
    input: FileAt,
    returns: FileInfo,
    errors: fileErrors,
  },
  listDirectory: {
    method: "GET",
    path: "/v1/sandboxes/:id/fs/dir",
    scope: "sandbox:read",
    says: "Entries of a directory, by name",
    input: FileAt,
    returns: Type.Array(FileInfo),
    errors: fileErrors,
  },
  mkdir: {
    method: "POST",
    path: "/v1/sandboxes/:id/fs/mkdir",
    scope: "sandbox:write",
    says: "Make a directory and its parents; an existing one is not an error",
    input: Type.Object({ id: Id, path: GuestPath, mode: Type.Optional(Mode) }, { additionalProperties: false }),
    returns: "nothing",
    errors: fileErrors,
  },
  rename: {
    method: "POST",
    path: "/v1/sandboxes/:id/fs/rename",
    scope: "sandbox:write",
    says: "Rename, replacing a file that is there",
    input: Type.Object({ id: Id, path: GuestPath, to: GuestPath }, { additionalProperties: false }),
    returns: "nothing",
    errors: fileErrors,
  },
  chmod: {
    method: "POST",
    path: "/v1/sandboxes/:id/fs/chmod",
    scope: "sandbox:write",
    says: "Set permission bits",
    input: Type.Object({ id: Id, path: GuestPath, mode: Mode }, { additionalProperties: false }),
    returns: "nothing",
    errors: fileErrors,
  },
  removeFile: {
    method: "DELETE",
    path: "/v1/sandboxes/:id/fs",
    scope: "sandbox:write",
    says: "Delete a file or, with `recursive`, a directory and all in it",
    input: Type.Object(
      { id: Id, path: GuestPath, recursive: Type.Optional(Type.Boolean()) },
      { additionalProperties: false },
    ),
    returns: "nothing",
    errors: fileErrors,
  },
  watch: {
    method: "GET",
    path: "/v1/sandboxes/:id/fs/watch",
    scope: "sandbox:read",
    says: "Follow what changes in a directory, or in all below it with `recursive`; `ready` comes first",
    input: Type.Object(
      { id: Id, path: GuestPath, recursive: Type.Optional(Type.Boolean()) },
      { additionalProperties: false },
    ),
    returns: { events: WatchEvent },
    errors: [...fileErrors, "unsupported"],
  },
  archiveOut: {
    method: "GET",
    path: "/v1/sandboxes/:id/fs/archive",
    scope: "sandbox:read",
    says: "A directory or file as a tar stream, made by the guest's tar",
    input: FileAt,
    returns: "bytes",
    errors: fileErrors,
  },
  archiveIn: {
    method: "PUT",
    path: "/v1/sandboxes/:id/fs/archive",
    scope: "sandbox:write",
    says: "Unpack a tar stream into a directory, by the guest's tar",
    input: FileAt,
    upload: true,
    returns: "nothing",
    errors: fileErrors,
  },
} as const satisfies Contract;
