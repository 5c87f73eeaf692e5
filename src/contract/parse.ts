/** Untrusted → typed, by schema, with an error that names the field, what came and what is allowed. */
import type { Static, TSchema } from "@sinclair/typebox";
import { type TypeCheck, TypeCompiler, type ValueError } from "@sinclair/typebox/compiler";
import { WarrenError } from "../errors.ts";

const compiled = new WeakMap<TSchema, TypeCheck<TSchema>>();

function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

/** What a bound of a schema means. */
const BOUNDS: readonly (readonly [string, (bound: unknown) => string])[] = [
  ["minimum", (n) => `at least ${n}`],
  ["exclusiveMinimum", (n) => `above ${n}`],
  ["maximum", (n) => `at most ${n}`],
  ["pattern", (pattern) => `matching ${pattern}`],
  ["minLength", (n) => `at least ${n} ${n === 1 ? "character" : "characters"}`],
  ["maxLength", (n) => `at most ${n} characters`],
  ["minItems", (n) => `with at least ${n}`],
  ["maxItems", (n) => `with at most ${n}`],
  ["minProperties", (n) => `with at least ${n} ${n === 1 ? "entry" : "entries"}`],
  ["maxProperties", (n) => `with at most ${n} entries`],
];

function allowed(schema: TSchema): string {
  const s = schema as Record<string, unknown>;
  const members = s["anyOf"] as TSchema[] | undefined;
  if (members !== undefined) {
    const isWord = (member: TSchema): boolean => member["const"] !== undefined;
    const words = members.filter(isWord).map((member) => shown(member["const"]));
    const one = words.length === 0 ? [] : [`one of ${words.join(", ")}`];
    return [...one, ...members.filter((member) => !isWord(member)).map(allowed)].join("; or ");
  }
  if (s["const"] !== undefined) return shown(s["const"]);
  const type = s["type"];
  if (type === "null") return "null";
  const kind = type === undefined ? "another type" : `${/^[aio]/.test(String(type)) ? "an" : "a"} ${type}`;
  const bounds = BOUNDS.flatMap(([key, says]) => (s[key] === undefined ? [] : [says(s[key])]));
  return [kind, ...bounds].join(", ");
}

/** `/metadata/a~1b` → `metadata.a/b`. */
function fieldOf({ path }: ValueError): string {
  const keys = path.slice(1).split("/");
  return keys.map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~")).join(".");
}

function says(error: ValueError): string {
  const field = fieldOf(error) || "the input";
  if (error.message.startsWith("Unexpected property")) return `${field}: not a known field`;
  if (error.message.startsWith("Expected required property")) return `${field}: is required`;
  return `${field}: got ${shown(error.value)}, allowed is ${allowed(error.schema)}`;
}

/**
 * The value, now typed.
 * @throws {WarrenError} `invalid_request` – naming the first field that does not fit, in `details.field` too.
 */
export function parse<S extends TSchema>(schema: S, value: unknown): Static<S> {
  let check = compiled.get(schema) as TypeCheck<S> | undefined;
  if (check === undefined) {
    check = TypeCompiler.Compile(schema);
    compiled.set(schema, check as unknown as TypeCheck<TSchema>);
  }
  if (check.Check(value)) return value;
  const first = check.Errors(value).First();
  if (first === undefined) throw new WarrenError("invalid_request", "the input does not fit its schema");
  throw new WarrenError("invalid_request", says(first), {
    details: { field: fieldOf(first), allowed: allowed(first.schema) },
  });
}
