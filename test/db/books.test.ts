/** The books suite, over both engines. */
import { gate } from "../harness/gates.ts";
import { newDatabase } from "../harness/pglite.ts";
import { PrivatePostgres } from "../harness/stores/postgres.ts";
import { booksSuite } from "../suites/store/books.ts";
import { Folder, pgliteForm, postgresForm } from "./world.ts";

booksSuite("PGlite", async () => {
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
  booksSuite("PostgreSQL", async () => {
    const server = await PrivatePostgres.open();
    const form = await postgresForm(await server.database());
    const close = async () => {
      await form.close();
      await server[Symbol.asyncDispose]();
    };
    return { ...form, close };
  });
}
