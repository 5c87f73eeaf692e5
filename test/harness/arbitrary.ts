/**
 * Values out of schemas, for properties over whole tables: `arbitrary` makes what fits, `broken` lists every way in which one
 * field of an object can be wrong, each with the field's name as an error would say it.
 */
import { Kind, OptionalKind, type TObject, type TSchema } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import fc from "fast-check";

/** Instead of what a field's schema would make, by the field's key and where they fit it: a schema may allow more than there is. */
export type Overrides = Readonly<Record<string, fc.Arbitrary<unknown>>>;

/** Lists and records are this long at most, whatever their schema allows: what is long is slow, and finds nothing more. */
const MANY = 3;
const LONG = 40;

const timestamp = fc
  .date({ min: new Date("2020-01-01T00:00:00Z"), max: new Date("2040-01-01T00:00:00Z"), noInvalidDate: true })
  .map((date) => date.toISOString());

interface Bounds {
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minProperties?: number;
  readonly maxProperties?: number;
  readonly pattern?: string;
}
const boundsOf = (schema: TSchema): Bounds => schema as Bounds;

function text(schema: TSchema): fc.Arbitrary<string> {
  const { pattern, minLength = 0, maxLength = LONG } = boundsOf(schema);
  const most = Math.min(maxLength, Math.max(LONG, minLength));
  if (pattern === undefined) return fc.string({ unit: "binary", minLength, maxLength: Math.floor(most / 2) || most });
  return fc
    .stringMatching(new RegExp(pattern), { size: "small" })
    .filter((one) => one.length >= minLength && one.length <= maxLength && new RegExp(pattern).test(one));
}

function number(schema: TSchema): fc.Arbitrary<number> {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = boundsOf(schema);
  return fc
    .double({
      min: minimum ?? exclusiveMinimum ?? -1e15,
      max: maximum ?? exclusiveMaximum ?? 1e15,
      minExcluded: exclusiveMinimum !== undefined,
      maxExcluded: exclusiveMaximum !== undefined,
      noNaN: true,
    })
    .map((one) => one + 0); // JSON has no -0
}

function record(schema: TSchema, overrides: Overrides): fc.Arbitrary<unknown> {
  const [pattern, value] = Object.entries(schema["patternProperties"] as Record<string, TSchema>)[0] ?? [];
  if (pattern === undefined || value === undefined) throw new Error("a record without a pattern for its keys");
  const keys = text({ ...schema, pattern } as TSchema);
  const { minProperties: minLength = 0, maxProperties = MANY } = boundsOf(schema);
  const maxLength = Math.min(maxProperties, MANY);
  return fc
    .uniqueArray(fc.tuple(keys, arbitrary(value, overrides)), { selector: ([key]) => key, minLength, maxLength })
    .map((entries) => Object.fromEntries(entries));
}

/** What fits the schema. Strings whose key ends in `At` are timestamps. */
export function arbitrary(schema: TSchema, overrides: Overrides = {}): fc.Arbitrary<unknown> {
  switch (schema[Kind]) {
    case "String":
      return text(schema);
    case "Integer": {
      const { minimum, maximum, exclusiveMinimum } = boundsOf(schema);
      const min = minimum ?? (exclusiveMinimum === undefined ? -(2 ** 40) : exclusiveMinimum + 1);
      return fc.integer({ min, max: maximum ?? 2 ** 40 });
    }
    case "Number":
      return number(schema);
    case "Boolean":
      return fc.boolean();
    case "Literal":
      return fc.constant(schema["const"]);
    case "Null":
      return fc.constant(null);
    case "Unknown":
    case "Any":
      return fc.jsonValue();
    case "Uint8Array":
      return fc.uint8Array({ maxLength: 100 });
    case "Union":
      return fc.oneof(...(schema["anyOf"] as TSchema[]).map((member) => arbitrary(member, overrides)));
    case "Array": {
      const { minItems: minLength = 0, maxItems = MANY } = boundsOf(schema);
      const maxLength = Math.max(minLength, Math.min(maxItems, MANY));
      return fc.array(arbitrary(schema["items"] as TSchema, overrides), { minLength, maxLength });
    }
    case "Record":
      return record(schema, overrides);
    case "Object":
      return object(schema as TObject, overrides);
    default:
      throw new Error(`no values of ${String(schema[Kind])}`);
  }
}

function object(schema: TObject, overrides: Overrides): fc.Arbitrary<Record<string, unknown>> {
  const fields = Object.entries(schema.properties);
  const model = fields.map(([key, field]): [string, fc.Arbitrary<unknown>] => {
    const given = Object.hasOwn(overrides, key) ? overrides[key] : undefined;
    if (given !== undefined && fc.sample(given, { numRuns: 1, seed: 7 }).every((one) => Value.Check(field, one)))
      return [key, given];
    const dated = /(^at|At|_at)$/.test(key) && boundsOf(field).pattern === undefined;
    if (!dated) return [key, arbitrary(field, overrides)];
    if (field[Kind] === "String") return [key, timestamp];
    const nullable = field[Kind] === "Union" && (field["anyOf"] as TSchema[]).some((one) => one[Kind] === "String");
    return [key, nullable ? fc.option(timestamp) : arbitrary(field, overrides)];
  });
  const requiredKeys = fields.filter(([, field]) => field[OptionalKind] !== "Optional").map(([key]) => key);
  return fc.record(Object.fromEntries(model), { requiredKeys, noNullPrototype: true }) as fc.Arbitrary<
    Record<string, unknown>
  >;
}

/** One that fits, the same each time. */
export function sample(schema: TSchema, overrides: Overrides = {}): unknown {
  return fc.sample(arbitrary(schema, overrides), { numRuns: 1, seed: 7 })[0];
}

/** One way to be wrong. */
export interface Broken {
  /** As errors name it: `volumes.0.name`. */
  readonly field: string;
  /** For a test's name. */
  readonly why: string;
  /** The valid input with this field wrong, and all else as it was. */
  readonly of: (valid: Readonly<Record<string, unknown>>) => Record<string, unknown>;
}

interface Wrong {
  /** Within what is wrong: empty for itself. */
  readonly path: readonly string[];
  readonly why: string;
  readonly of: (valid: unknown) => unknown;
}

const always = (why: string, value: unknown): Wrong => ({ path: [], why, of: () => value });

function below(at: string, schema: TSchema, wrong: readonly Wrong[], put: (valid: unknown, inner: unknown) => unknown) {
  return wrong.map(({ path, why, of }): Wrong => {
    const inner = (valid: unknown): unknown => {
      const own = valid as Record<string, unknown> | undefined;
      return own !== undefined && Object.hasOwn(own, at) ? own[at] : sample(schema);
    };
    return { path: [at, ...path], why, of: (valid) => put(valid, of(inner(valid))) };
  });
}

function wrongTexts(schema: TSchema): Wrong[] {
  const { pattern, minLength = 0, maxLength } = boundsOf(schema);
  const ways = [always("a number", 12.5), always("a list", [])];
  if (maxLength !== undefined) ways.push(always("too long", String(sample(schema)).padEnd(maxLength + 1, "a")));
  if (minLength > 0) ways.push(always("empty", ""));
  const misfits = ["\u0000", "", "\u0000=", "é \u0000", "="].filter(
    (one) => pattern !== undefined && !new RegExp(pattern).test(one),
  );
  const [misfit] = misfits;
  if (misfit !== undefined) ways.push(always("of another form", misfit));
  return ways;
}

function wrongNumbers(schema: TSchema): Wrong[] {
  const { minimum, maximum, exclusiveMinimum } = boundsOf(schema);
  const ways = [always("text", "many"), always("null", null)];
  if (schema[Kind] === "Integer") ways.push(always("no whole number", (minimum ?? 0) + 0.5));
  if (minimum !== undefined) ways.push(always("too small", minimum - 1));
  if (exclusiveMinimum !== undefined) ways.push(always("at its bound", exclusiveMinimum));
  if (maximum !== undefined) ways.push(always("too large", maximum + 1));
  return ways;
}

function wrongLists(schema: TSchema): Wrong[] {
  const { minItems = 0, maxItems } = boundsOf(schema);
  const item = schema["items"] as TSchema;
  const ways = [always("no list", true)];
  if (minItems > 0) ways.push(always("too short", []));
  if (maxItems !== undefined) {
    const many = Array.from({ length: maxItems + 1 }, () => sample(item));
    ways.push(always("too many", many));
  }
  const first = (valid: unknown, inner: unknown): unknown => [
    inner,
    ...((valid as unknown[] | undefined) ?? []).slice(1),
  ];
  return [...ways, ...below("0", item, wrongs(item), first)];
}

function wrongRecords(schema: TSchema): Wrong[] {
  const [pattern = "", value] = Object.entries(schema["patternProperties"] as Record<string, TSchema>)[0] ?? [];
  const { minProperties = 0, maxProperties } = boundsOf(schema);
  const ways = [always("no object", "text"), always("a list", [])];
  if (minProperties > 0) ways.push(always("too few entries", {}));
  if (value === undefined) return ways;
  if (maxProperties !== undefined) {
    const entries = Array.from({ length: maxProperties + 1 }, (_, n) => [`key${n}`, sample(value)]);
    ways.push(always("too many entries", Object.fromEntries(entries)));
  }
  const key = "key";
  const put = (valid: unknown, inner: unknown): unknown => ({ ...(valid as object), [key]: inner });
  ways.push(...below(key, value, wrongs(value), put));
  const misfit = ["a=b", ""].find((one) => !new RegExp(pattern).test(one));
  if (misfit !== undefined && misfit !== "")
    ways.push({
      path: [misfit],
      why: "a key of another form",
      of: (valid) => ({ ...(valid as object), [misfit]: sample(value) }),
    });
  return ways;
}

function wrongObjects(schema: TObject): Wrong[] {
  const own = Object.entries(schema.properties).flatMap(([key, field]): Wrong[] => {
    const put = (valid: unknown, inner: unknown): unknown => ({ ...(valid as object), [key]: inner });
    const inner = below(key, field, wrongs(field), put);
    if (field[OptionalKind] === "Optional") return inner;
    const without = (valid: unknown): unknown => {
      const { [key]: _, ...rest } = valid as Record<string, unknown>;
      return rest;
    };
    return [...inner, { path: [key], why: "missing", of: without }];
  });
  const unknown: Wrong = {
    path: ["no_such_field"],
    why: "not known",
    of: (valid) => ({ ...(valid as object), no_such_field: 1 }),
  };
  return schema["additionalProperties"] === false ? [...own, unknown] : own;
}

function wrongs(schema: TSchema): Wrong[] {
  switch (schema[Kind]) {
    case "String":
      return wrongTexts(schema);
    case "Integer":
    case "Number":
      return wrongNumbers(schema);
    case "Boolean":
      return [always("text", "perhaps"), always("a number", 2)];
    case "Literal":
      return [always("another word", "no-such-word"), always("a number", 12.5)];
    case "Union":
      return wrongUnion(schema["anyOf"] as TSchema[]);
    case "Array":
      return wrongLists(schema);
    case "Record":
      return wrongRecords(schema);
    case "Object":
      return [always("no object", 12.5), ...wrongObjects(schema as TObject)];
    default:
      return [];
  }
}

/** Wrong for every member; what is wrong inside of one is told of the whole. */
function wrongUnion(members: readonly TSchema[]): Wrong[] {
  const kinds = new Set(members.map((member) => member[Kind]));
  const ways = [always("a list", [])];
  if (!kinds.has("Object") && !kinds.has("Record")) ways.push(always("an object", {}));
  if (!kinds.has("Boolean")) ways.push(always("a boolean", true));
  const [first] = members;
  if (first !== undefined && members.every((member) => member[Kind] === "Literal" || member[Kind] === "Null"))
    ways.push(always("another word", "no-such-word"));
  const bounded = members.filter((member) => member[Kind] === "Integer" || member[Kind] === "Number");
  if (bounded.length === 1 && bounded[0] !== undefined && !kinds.has("String"))
    ways.push(...wrongNumbers(bounded[0]).filter(({ of }) => of(undefined) !== null));
  return ways;
}

/** Every way in which one field of an input can be wrong. */
export function broken(schema: TObject): Broken[] {
  return wrongObjects(schema).map(({ path, why, of }) => ({
    field: path.join("."),
    why,
    of: (valid) => of(valid) as Record<string, unknown>,
  }));
}
