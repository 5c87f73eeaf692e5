/** What `faults.test.ts` kills: forks sandboxes of the test home, forks of forks too, until it is ended. */
import { Sandbox } from "../../../src/sandbox.ts";
import { openTestWarren } from "../../harness/vm.ts";

const warren = await openTestWarren({ prepared: 0 });
console.log("go");
const lane = async (): Promise<never> => {
  for (;;) {
    const parent = await Sandbox.create({ template: "base", ttlSeconds: 60 }, warren.sandboxes);
    const children = await parent.forks(2);
    const grandchild = await children[0]!.fork();
    await grandchild.exec("head -c 10000000 /dev/urandom >/run/dirt");
    await Promise.all([parent, ...children, grandchild].map((one) => one.close()));
  }
};
await Promise.all([lane(), lane()]);
