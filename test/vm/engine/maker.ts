/**
 * What `detached.test.ts` starts and ends: makes one sandbox in the test home, says one line of JSON about it and goes
 * (`exit`) or waits to be killed (`hold`). `bun maker.ts exit|hold OPTIONS`, the options of `Sandbox.create` as JSON.
 */
import { Sandbox } from "../../../src/sandbox.ts";
import { openTestWarren } from "../../harness/vm.ts";

const [mode, options = "{}"] = process.argv.slice(2);
const warren = await openTestWarren({ prepared: 0 });
const sandbox = await Sandbox.create({ template: "base", ...JSON.parse(options) }, warren.sandboxes);
await sandbox.files.write("/work/mark", `made by ${process.pid}`);
const record = await warren.host.registry.get(sandbox.id);
console.log(JSON.stringify({ maker: process.pid, info: await sandbox.info(), ref: record?.ref }));
if (mode === "hold") await new Promise(() => setInterval(() => undefined, 60_000));
await warren[Symbol.asyncDispose]();
process.exit(0);
