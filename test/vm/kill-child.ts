/** What `kills.test.ts` kills: makes, uses and closes sandboxes of the test home until it is ended. */
import { Sandbox } from "../../src/sandbox.ts";
import { openTestWarren } from "../harness/vm.ts";

const warren = await openTestWarren();
console.log("go");
const lane = async (): Promise<never> => {
  for (;;) {
    const sandbox = await Sandbox.create({ template: "base", ttlSeconds: 60 }, warren.sandboxes);
    await sandbox.files.write("/work/data", new Uint8Array(100_000));
    await sandbox.exec("wc -c /work/data; head -c 1000000 /dev/zero");
    await sandbox.close();
  }
};
await Promise.all([lane(), lane(), lane()]);
