/** Labels that an account gives to ports of its sandboxes. */
import { asc, eq } from "drizzle-orm";
import type { Store } from "../../api/store.ts";
import { type Database, owned } from "../database.ts";
import { portLabels } from "../schema/sandboxes.ts";

type Calls = Pick<Store, "labelPort" | "unlabelPort" | "portLabels">;

export function portCalls(db: Database): Calls {
  return {
    async labelPort(account, sandbox, port, label) {
      await db.ask((orm) =>
        orm
          .insert(portLabels)
          .values({ account, sandbox, port, label })
          .onConflictDoUpdate({ target: [portLabels.account, portLabels.sandbox, portLabels.port], set: { label } }),
      );
    },
    async unlabelPort(account, sandbox, port) {
      const gone = await db.ask((orm) =>
        orm
          .delete(portLabels)
          .where(owned(portLabels, account, eq(portLabels.sandbox, sandbox), eq(portLabels.port, port)))
          .returning({ port: portLabels.port }),
      );
      return gone.length > 0;
    },
    async portLabels(account, sandbox) {
      const rows = await db.ask((orm) =>
        orm
          .select()
          .from(portLabels)
          .where(owned(portLabels, account, eq(portLabels.sandbox, sandbox)))
          .orderBy(asc(portLabels.port)),
      );
      return new Map(rows.map(({ port, label }) => [port, label]));
    },
  };
}
