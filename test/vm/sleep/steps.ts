/** Where a process that keeps, puts to sleep or wakes sandboxes is ended, in the order in which it gets there. */

/** Files of an image as they are written; told by the store, which cannot be held there: what is ended is the first of several. */
const WRITTEN = ["base", "layer", "state", "disk", "manifest", "published"] as const;
const TAKEN = ["pause", "capture", "save"] as const;

export const STEPS = {
  snapshot: [...TAKEN, "resume", "store", ...WRITTEN, "stored", "done"],
  hibernate: [...TAKEN, "store", ...WRITTEN, "stored", "kill", "done"],
  wake: ["take", "open", "prepare", "load", "consume", "consumed", "resume", "connect", "done"],
} as const;

export type Job = keyof typeof STEPS;
export type Step = (typeof STEPS)[Job][number];

/** What may have become of a sandbox when its process was ended. */
export type Fate = "gone" | "runs" | "sleeps";

function isWritten(step: Step): boolean {
  return (WRITTEN as readonly Step[]).includes(step);
}

/** All that are right; one only where every sandbox is held at the very step. */
export function fates(job: Job, step: Step, detached: boolean): readonly Fate[] {
  const orphan = detached ? "runs" : "gone";
  if (job === "snapshot") return [orphan];
  const steps: readonly Step[] = STEPS[job];
  const isAfter = (other: Step) => steps.indexOf(step) >= steps.indexOf(other);
  if (job === "wake") {
    if (step === "done") return [orphan];
    return [isAfter("consumed") ? "gone" : "sleeps"];
  }
  if (isWritten(step)) return [orphan, "sleeps"];
  return [isAfter("stored") ? "sleeps" : orphan];
}
