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

function allowed(schema: TSchema): string {
  const s = schema as Record<string, unknown>;
  const bounds = [
    s["minimum"] !== undefined ? `at least ${s["minimum"]}` : "",
    s["exclusiveMinimum"] !== undefined ? `above ${s["exclusiveMinimum"]}` : "",
    s["maximum"] !== undefined ? `at most ${s["maximum"]}` : "",
    s["pattern"] !== undefined ? `matching ${s["pattern"]}` : "",
    s["maxLength"] !== undefined ? `at most ${s["maxLength"]} characters` : "",
  ].filter((b) => b !== "");
  const literals = (s["anyOf"] as { const?: unknown }[] | undefined)
    ?.map((l) => l.const)
    .filter((l) => l !== undefined);
  if (literals !== undefined && literals.length > 0) return `one of ${literals.map(shown).join(", ")}`;
  const kind = s["type"] === undefined ? "another type" : `${s["type"] === "integer" ? "an" : "a"} ${s["type"]}`;
  return [kind, ...bounds].join(", ");
}

function says(error: ValueError): string {
  const field = error.path.slice(1).replaceAll("/", ".") || "the input";
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
    details: { field: first.path.slice(1).replaceAll("/", "."), allowed: allowed(first.schema) },
  });
}
