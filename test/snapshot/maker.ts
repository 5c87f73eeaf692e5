/** A process that saves a snapshot and ends by SIGKILL at a step: DIR, the step's number from 0, and what it does. */
import { makePoint, metaOf, snapshotsIn } from "./points.ts";

const [dir, step, what] = process.argv.slice(2);
let steps = 0;
const store = snapshotsIn(dir!, {
  step: () => {
    if (steps++ === Number(step)) process.kill(process.pid, "SIGKILL");
  },
});
const point = makePoint(dir!, 1, [new Map([[1, 1]]), new Map([[1, 2]]), new Map([[3, 3]])], "made");
if (what === "take") {
  const taken = await store.takeImage("sb_x");
  console.log(taken === null ? "none" : "taken");
  if (step === "-1") {
    process.stdout.write("");
    process.kill(process.pid, "SIGKILL");
  }
} else if (what === "race") {
  // Both are there before either takes it.
  console.log("ready");
  for await (const _ of console) break;
  const taken = await store.takeImage("sb_x");
  console.log(taken === null ? "none" : "taken");
  for await (const _ of console) break;
  await taken?.consume();
} else {
  await store.save(point, metaOf("snap_made"));
  console.log(`whole after ${steps}`);
}
