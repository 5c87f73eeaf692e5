/** A server over fakes as a process of its own: says where it listens, and ends as `warren serve` does. */
import { processIo } from "../../src/cli/ground/process-io.ts";
import { untilTold } from "../../src/cli/verbs/api/serve.ts";
import { startServer } from "../../src/server/start.ts";
import { fake, slow } from "./parts.ts";

const io = processIo(() => Promise.reject(new Error("no ground here")));
process.on("SIGUSR2", () => slow.finish());
const { options } = fake({ onNews: (news) => process.stdout.write(`${JSON.stringify(news)}\n`) });
process.exit(await untilTold(io, () => startServer(options)));
