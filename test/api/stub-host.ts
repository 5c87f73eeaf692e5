/** A `SandboxHost` that answers every row with something that fits its schema, or fails with what it is told to. */
import type { TSchema } from "@sinclair/typebox";
import fc from "fast-check";
import type { Route } from "../../src/contract/route.ts";
import { routes, type SandboxHost } from "../../src/contract/routes.ts";
import type { WarrenError } from "../../src/errors.ts";
import { sample } from "../harness/arbitrary.ts";

/** Numbers that a schema bounds less than what they number. */
const ONES = { context: fc.constant(7), mode: fc.constant(0o644) };

type Call = (input: unknown, options?: { began?: (id: string) => void }) => Promise<unknown>;

async function* one(value: unknown): AsyncGenerator<unknown> {
  yield value;
}

function answer({ returns }: Route): unknown {
  if (returns === "nothing" || returns === "socket") return undefined;
  if (returns === "bytes") return one(new TextEncoder().encode("bytes"));
  if (Object.hasOwn(returns, "events")) return one(sample((returns as { events: TSchema }).events, ONES));
  return sample(returns as TSchema, ONES);
}

/** `failing` may name a row and how it fails. */
export function stubHost(failing: () => { readonly row: string; readonly error: WarrenError } | null): SandboxHost {
  const calls = Object.entries<Route>(routes).map(([name, route]): [string, Call] => [
    name,
    async () => {
      const fails = failing();
      if (fails?.row === name) throw fails.error;
      return answer(route);
    },
  ]);
  return Object.fromEntries(calls) as unknown as SandboxHost;
}
