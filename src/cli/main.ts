/** `warren` itself: one command line, in this process. */
import type { Ground } from "./ground/ground.ts";
import { processIo } from "./ground/process-io.ts";
import { runCli } from "./program.ts";

let ground: Promise<Ground> | null = null;
/** Imported when something is asked of it: help and completion need none of it. */
function realGround(): Promise<Ground> {
  ground ??= import("./ground/real-ground.ts").then((module) => module.realGround());
  return ground;
}

const code = await runCli(process.argv.slice(2), processIo(realGround));
// What is still open, a terminal that was being read for instance, must not keep a finished command alive.
process.exit(code);
