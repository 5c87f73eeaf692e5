/** The store suite, over every store that there is. */

import { gate } from "../harness/gates.ts";
import { newDatabase } from "../harness/pglite.ts";
import { MemoryStore } from "../harness/stores/memory-store.ts";
import { PrivatePostgres } from "../harness/stores/postgres.ts";
import { storeSuite } from "../suites/store.ts";
import { Folder, pgliteForm, postgresForm } from "./world.ts";

storeSuite(
  "memory",
  async () => {
    const store = new MemoryStore();
    return { store, second: null, meter: null, close: () => store[Symbol.asyncDispose]() };
  },
  { meter: "the memory of tests keeps no meters" },
);

storeSuite("PGlite", async () => {
  const folder = new Folder();
  await newDatabase(folder.path);
  const form = await pgliteForm(folder.path);
  const close = async () => {
    await form.close();
    folder[Symbol.dispose]();
  };
  return { ...form, close };
});

if (gate("postgres")) {
  storeSuite("PostgreSQL", async () => {
    const server = await PrivatePostgres.open();
    const form = await postgresForm(await server.database());
    const close = async () => {
      await form.close();
      await server[Symbol.asyncDispose]();
    };
    return { ...form, close };
  });
}
