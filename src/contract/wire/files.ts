/** Files on the wire: permission bits are octal text, and directories say so. */
import { type TObject, type TSchema, Type } from "@sinclair/typebox";
import { FileInfo, fileRoutes } from "../routes/files.ts";
import type { Codec, ObjectCodec } from "./codec.ts";
import { array, isRecord, object } from "./derive.ts";
import { refuse, widened } from "./sandbox.ts";

const octal = (mode: number): string => mode.toString(8).padStart(4, "0");

/** `0644`, and `644` which means the same, or the number itself in JSON: 420. */
const ModeText = Type.String({ pattern: "^(0o?)?[0-7]{1,4}$", description: "Permission bits, octal" });
const mode: Codec = {
  schema: Type.Union([ModeText, Type.Integer({ minimum: 0, maximum: 0o7777 })]),
  encode: (value) => octal(value as number),
  decode: (wire) => (typeof wire === "string" ? Number.parseInt(wire.replace("o", ""), 8) : wire),
};
const modeOut: Codec = { ...mode, schema: Type.String({ pattern: "^[0-7]{4,}$" }) };

export function withMode(schema: TObject): ObjectCodec {
  return object(schema, "input", { fields: { mode } });
}

const infoBase = object(FileInfo, "result", { fields: { mode: modeOut } });
const isDirectory = { is_dir: Type.Boolean() };

function entry(more: Readonly<Record<string, TSchema>>, beside: (info: FileInfo) => object): ObjectCodec {
  return {
    ...widened(infoBase, { ...isDirectory, ...more }),
    encode: (value) => {
      const info = value as FileInfo;
      return { ...(infoBase.encode(info) as object), is_dir: info.type === "directory", ...beside(info) };
    },
    decode: infoBase.decode,
  };
}

export const fileInfo = entry({}, () => ({}));
export const written = entry({ bytes: Type.Integer({ minimum: 0 }) }, ({ size }) => ({ bytes: size }));

const entries = array(fileInfo);
export const directory: Codec = {
  schema: Type.Object({ path: Type.String(), entries: entries.schema }),
  encode: (value, input) => ({ path: isRecord(input) ? (input["path"] ?? "/") : "/", entries: entries.encode(value) }),
  decode: (wire) => entries.decode((wire as { entries: unknown }).entries),
};

const renameBase = object(fileRoutes.rename.input, "input");
/** What is renamed is `path`, or `from` beside `to`. */
export const rename: ObjectCodec = {
  ...widened(renameBase, {
    path: Type.Optional(fileRoutes.rename.input.properties.path),
    from: Type.Optional({ ...fileRoutes.rename.input.properties.path, description: "The same as path" }),
  }),
  encode: renameBase.encode,
  decode(wire) {
    const { from, path = from, ...rest } = wire as Record<string, unknown>;
    if (path === undefined) refuse("path", "is required");
    if (from !== undefined && from !== path) refuse("from", "the same as path");
    return renameBase.decode({ ...rest, path });
  },
};
