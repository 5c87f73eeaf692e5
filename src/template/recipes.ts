/** What each shipped template is made of: the JSON files in images/templates, checked by schema when first asked for. */
import { type Static, Type } from "@sinclair/typebox";
import base from "../../images/templates/base.json" with { type: "json" };
import codeInterpreter from "../../images/templates/code-interpreter.json" with { type: "json" };
import { parse } from "../contract/parse.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";

export const Recipe = Type.Object(
  {
    name: Type.String({ pattern: "^[a-z0-9][a-z0-9._-]{0,62}$" }),
    description: Type.String(),
    /** Debian packages, from main of {@link SUITE} alone. */
    packages: Type.Array(Type.String({ pattern: "^[a-z0-9][a-z0-9+.-]+$" })),
    /** Python modules that the warm interpreter has imported when the snapshot is taken. */
    warm: Type.Array(Type.String({ pattern: "^[A-Za-z_][A-Za-z0-9_.]*$" })),
    /** Size baked first, and that of a create that names none. */
    cpu: Type.Integer({ minimum: 1, maximum: LIMITS.cpuMax }),
    memoryMib: Type.Integer({ minimum: LIMITS.memoryMibMin, maximum: LIMITS.memoryMibMax }),
    /** What building its images takes on the host at its peak; measured, with a reserve. */
    roomMib: Type.Integer({ minimum: 1 }),
    /** Size of the root disk; a clone takes only what it writes. */
    diskMib: Type.Integer({ minimum: 512, maximum: 1024 * 1024 }),
  },
  { additionalProperties: false },
);
export type Recipe = Static<typeof Recipe>;

/** The guest's Debian release: fixed, whatever the host runs. */
export const SUITE = "bookworm";

const recipes: ReadonlyMap<string, Recipe> = new Map(
  [base, codeInterpreter].map((raw) => [raw.name, parse(Recipe, raw)]),
);

export function recipeNames(): string[] {
  return [...recipes.keys()];
}

export function hasRecipe(name: string): boolean {
  return recipes.has(name);
}

/** @throws {WarrenError} `template_not_found` – naming those that exist. */
export function recipeOf(name: string): Recipe {
  const recipe = recipes.get(name);
  if (recipe === undefined) {
    const known = recipeNames();
    throw new WarrenError(
      "template_not_found",
      `there is no template ${JSON.stringify(name)}; there are ${known.join(", ")}`,
      {
        details: { field: "template", got: name, allowed: known },
      },
    );
  }
  return recipe;
}
