/** A process with the embedded store of a folder: says its account, then books sandboxes and says how many were, until it is killed. */
import { openStore } from "../../src/db/store.ts";
import { account, booking } from "../suites/store/world.ts";
import { parts } from "./world.ts";

const store = await openStore({ ...parts, url: null, dir: process.argv[2] ?? "" });
const mine = await account(store);
process.stdout.write(`${mine}\n`);
for (let booked = 1; ; booked++) {
  const { kind } = await store.admit(mine, [booking()], null);
  if (kind !== "booked") throw new Error(kind);
  process.stdout.write(`${booked}\n`);
}
