/** A test for each failure of each row; one that is not brought about here says why in its name. */
import { describe, expect, test } from "bun:test";
import { statusOf } from "../../../src/contract/status.ts";
import type { RowName } from "../../../src/contract/table.ts";
import type { ErrorCode } from "../../../src/errors.ts";
import { rowOf } from "../requests.ts";
import { around } from "./around.ts";
import { billing } from "./billing.ts";
import { inside } from "./inside.ts";
import { Scene, type Way } from "./scene.ts";

const all = Object.entries({ ...inside, ...around, ...billing }) as [
  RowName,
  Readonly<Partial<Record<ErrorCode, Way>>>,
][];

export function provocationTests(): void {
  for (const [name, ways] of all) {
    const row = rowOf(name);
    describe(name, () => {
      for (const code of row.errors) {
        const way = ways[code];
        if (typeof way !== "function") {
          test.skip(`is not made to fail with ${code} here: ${way}`, () => undefined);
          continue;
        }
        test(`fails with ${code}`, async () => {
          await using scene = await Scene.open();
          const told = await way(scene);
          expect(told.code).toBe(code);
          // What comes after the first event of a stream is told in it. What is named may be in the path or beside it.
          expect([200, 400, statusOf(code, row)]).toContain(told.status);
          if (told.status === 400) expect([400, 404]).toContain(statusOf(code, row));
        });
      }
    });
  }
}
