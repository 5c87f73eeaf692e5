/** What `owners.test.ts` starts: `bun maker.ts detached|bound close|SIGKILL` puts a sandbox of the test home to sleep, and ends so. */
import { Sandbox } from "../../../src/sandbox.ts";
import { openTestWarren } from "../../harness/vm.ts";

const [kind, ending] = process.argv.slice(2);
const warren = await openTestWarren({ prepared: 0 });
const options = { template: "base", detached: kind === "detached", ttlSeconds: 300, env: { OF: "maker" } };
const sandbox = await Sandbox.create(options, warren.sandboxes);
await sandbox.exec("echo on-disk >/root/mark; echo in-memory >/run/mark");
const { pid } = await sandbox.spawn("while :; do sleep 1; done");
await sandbox.hibernate();
console.log(JSON.stringify({ id: sandbox.id, pid }));
if (ending === "SIGKILL") process.kill(process.pid, "SIGKILL");
await warren[Symbol.asyncDispose]();
process.exit(0);
