/** As much of `bun:test` as the shared suites use, over Node's own runner: they run on Node as they are. */
import { strict as assert } from "node:assert";
import { after, before, describe as nodeDescribe, test as nodeTest } from "node:test";
import { isDeepStrictEqual } from "node:util";

type Body = () => Promise<void> | void;

/** In order, one after the other, as Bun does. */
export function describe(name: string, body: () => void): void {
  nodeDescribe(name, { concurrency: 1 }, body);
}

export function beforeAll(body: Body, timeout?: number): void {
  before(body, timeout === undefined ? {} : { timeout });
}

export function afterAll(body: Body, timeout?: number): void {
  after(body, timeout === undefined ? {} : { timeout });
}

export const test = Object.assign(
  (name: string, body: Body, timeout?: number): void =>
    void nodeTest(name, timeout === undefined ? {} : { timeout }, async () => body()),
  { skip: (name: string, body: Body): void => void nodeTest(name, { skip: true }, async () => body()) },
);

/** Stands for any list that has these. */
class Containing {
  readonly items: readonly unknown[];

  constructor(items: readonly unknown[]) {
    this.items = items;
  }
}

/** Without fields that are `undefined`, as `toEqual` compares. */
function settled(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(settled);
  if (ArrayBuffer.isView(value)) return Uint8Array.from(value as Uint8Array);
  if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, one]) => one !== undefined)
      .map(([key, one]) => [key, settled(one)]),
  );
}

const equal = (a: unknown, b: unknown): boolean => isDeepStrictEqual(settled(a), settled(b));

function matches(value: unknown, wanted: unknown): boolean {
  if (wanted instanceof Containing)
    return Array.isArray(value) && wanted.items.every((item) => value.some((one) => equal(one, item)));
  if (Array.isArray(wanted))
    return Array.isArray(value) && value.length === wanted.length && wanted.every((one, i) => matches(value[i], one));
  if (typeof wanted !== "object" || wanted === null || Object.getPrototypeOf(wanted) !== Object.prototype)
    return equal(value, wanted);
  if (typeof value !== "object" || value === null) return false;
  const fields = value as Record<string, unknown>;
  return Object.entries(wanted).every(([key, one]) => matches(fields[key], one));
}

function contains(value: unknown, item: unknown): boolean {
  return typeof value === "string" ? value.includes(String(item)) : (value as unknown[]).includes(item);
}

function thrown(value: unknown): { readonly error: unknown } | null {
  try {
    (value as () => unknown)();
    return null;
  } catch (error) {
    return { error };
  }
}

const says = (error: unknown, text: string | undefined): boolean =>
  text === undefined || (error instanceof Error ? error.message : String(error)).includes(text);

function matchers(value: unknown, wanted: boolean) {
  const check = (holds: boolean, what: string, other?: unknown): void => {
    if (holds === wanted) return;
    const not = wanted ? "" : "not ";
    assert.fail(`expected ${show(value)} ${not}${what}${other === undefined ? "" : ` ${show(other)}`}`);
  };
  return {
    toBe: (other: unknown) => check(Object.is(value, other), "to be", other),
    toEqual: (other: unknown) => check(equal(value, other), "to equal", other),
    toMatchObject: (other: unknown) => check(matches(value, other), "to match", other),
    toContain: (other: unknown) => check(contains(value, other), "to contain", other),
    toContainEqual: (other: unknown) =>
      check(
        (value as unknown[]).some((one) => equal(one, other)),
        "to contain",
        other,
      ),
    toBeGreaterThan: (other: number) => check((value as number) > other, "to be above", other),
    toBeGreaterThanOrEqual: (other: number) => check((value as number) >= other, "to be at least", other),
    toBeLessThan: (other: number) => check((value as number) < other, "to be below", other),
    toBeLessThanOrEqual: (other: number) => check((value as number) <= other, "to be at most", other),
    toBeInstanceOf: (other: new (...all: never[]) => unknown) => check(value instanceof other, `to be a ${other.name}`),
    toBeArray: () => check(Array.isArray(value), "to be an array"),
    toBeNull: () => check(value === null, "to be null"),
    toHaveLength: (other: number) => check((value as unknown[]).length === other, "to have the length", other),
    toMatch: (other: RegExp) => check(other.test(value as string), "to match", String(other)),
    toThrow: (text?: string) => {
      const outcome = thrown(value);
      check(outcome !== null && says(outcome.error, text), "to throw", text);
    },
  };
}

function show(value: unknown): string {
  try {
    return JSON.stringify(value)?.slice(0, 1000) ?? String(value);
  } catch {
    return String(value); // it refers to itself
  }
}

export const expect = Object.assign(
  (value: unknown) => ({
    ...matchers(value, true),
    not: matchers(value, false),
    rejects: {
      toThrow: async (text?: string): Promise<void> => {
        const outcome = await (value as Promise<unknown>).then(
          (result) => ({ result }),
          (error: unknown) => ({ error }),
        );
        if ("result" in outcome) assert.fail(`expected a rejection, and it resolved with ${show(outcome.result)}`);
        if (!says(outcome.error, text)) assert.fail(`expected a rejection with ${text}, got ${String(outcome.error)}`);
      },
    },
  }),
  { arrayContaining: (items: readonly unknown[]) => new Containing(items) },
);
