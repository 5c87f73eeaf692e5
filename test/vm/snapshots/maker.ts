/** A process that makes a sandbox, leaves marks in its memory and on its disk, keeps a snapshot of it, and ends. */
import { Sandbox } from "../../../src/sandbox.ts";
import { openTestWarren } from "../../harness/vm.ts";

const [name = "made", ending = "exit"] = process.argv.slice(2);
const warren = await openTestWarren({ prepared: 0 });
const options = { template: "base", env: { MADE: name }, workdir: "/work" };
const sandbox = await Sandbox.create(options, warren.sandboxes);
await sandbox.exec("echo on-disk > /root/mark; sync; mkdir -p /dev/shm; echo in-memory > /dev/shm/mark");
const { pid } = await sandbox.spawn("while :; do sleep 1; done");
const snapshot = await sandbox.snapshot({ name });
console.log(JSON.stringify({ snapshot: await snapshot.info(), pid }));
if (ending === "SIGKILL") process.kill(process.pid, "SIGKILL");
await warren[Symbol.asyncDispose]();
process.exit(0);
