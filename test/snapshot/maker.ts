/** A process that saves a snapshot and ends by SIGKILL at a step (`DIR STEP save`), or races for an image (`DIR 0 race`). */
import { makePoint, metaOf, snapshotsIn } from "./points.ts";

const [dir, step, what] = process.argv.slice(2);
let steps = 0;
const store = snapshotsIn(dir!, {
  step: () => {
    if (steps++ === Number(step)) process.kill(process.pid, "SIGKILL");
  },
});
const point = makePoint(dir!, 1, [new Map([[1, 1]]), new Map([[1, 2]]), new Map([[3, 3]])], "made");
if (what === "race") {
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
