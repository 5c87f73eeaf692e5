/**
 * Errors name fields as their caller knows them: an engine's as the contract has them, a server's as they are on the wire.
 * Keys of records are a user's, and stay.
 */
import { Kind, type TSchema } from "@sinclair/typebox";
import { WarrenError } from "../../errors.ts";
import type { RowName } from "../table.ts";
import type { ObjectCodec } from "./codec.ts";
import { camel, snake } from "./derive.ts";
import { wireOf } from "./wire.ts";

type Naming = (codec: ObjectCodec, path: string) => string;

const toWire: Naming = ({ names, schema }, path) => {
  const [first = "", ...rest] = path.split(".");
  const wire = Object.hasOwn(names, first) ? (names[first] ?? first) : first;
  return joined(schema.properties[wire], wire, rest, snake);
};

const toContract: Naming = ({ names, schema }, path) => {
  const [first = "", ...rest] = path.split(".");
  const [key = first] = Object.entries(names).find(([, wire]) => wire === first) ?? [];
  return joined(schema.properties[first], key, rest, camel);
};

function joined(
  field: TSchema | undefined,
  first: string,
  rest: readonly string[],
  name: (key: string) => string,
): string {
  return [first, ...(field?.[Kind] === "Record" ? rest : rest.map(name))].join(".");
}

/** What a create names and is not there: an engine says which one, and a caller wants to know where it was said. */
function placed(row: RowName, error: WarrenError): WarrenError {
  if (row !== "create") return error;
  const { code, message, details, cause } = error;
  const isVolume = details["field"] === "name" && (code === "not_found" || code === "volume_in_use");
  const field = isVolume ? "volumes" : code === "template_not_found" ? "template" : null;
  if (field === null || message.startsWith(`${field}: `)) return error;
  return new WarrenError(code, `${field}: ${message}`, { details: { ...details, field }, cause });
}

function renamed(row: RowName, error: WarrenError, naming: Naming): WarrenError {
  const { field } = error.details;
  if (typeof field !== "string") return error;
  const other = naming(wireOf(row).input, field);
  if (other === field) return error;
  const { code, message, details, cause } = error;
  const says = message.startsWith(`${field}: `) ? `${other}${message.slice(field.length)}` : message;
  return new WarrenError(code, says, { details: { ...details, field: other }, cause });
}

/** What an engine says of a field, as the caller of a server wrote it: `ttlSeconds` → `ttl_seconds`. */
export function namedOnWire(row: RowName, error: WarrenError): WarrenError {
  return renamed(row, placed(row, error), toWire);
}

/** What a server says of a field, as the caller of a `SandboxHost` wrote it: `ttl_seconds` → `ttlSeconds`. */
export function namedInContract(row: RowName, error: WarrenError): WarrenError {
  return renamed(row, error, toContract);
}
