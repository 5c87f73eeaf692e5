/** What a home on this machine knows of its sandboxes: its register, the images of what hibernates, kept ends, and the kernel. */
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { RecordTime, SandboxRecord } from "../../engine/registry.ts";
import { axisNow, type SavedSnapshot } from "../../engine/snapshots.ts";
import { allEnds, endOf, forgetEnd, keepEnds } from "../../host/home/ends.ts";
import { openAxis } from "../../host/home/served-axis.ts";
import { Pulses } from "../../host/jail/pulse.ts";
import type { LinuxHost } from "../../host/linux.ts";
import { type FoundTime, type HostFacts, knownEnd } from "./facts.ts";

export interface HomeParts {
  readonly host: Pick<LinuxHost, "registry" | "data" | "bootId" | "networkOf">;
  readonly snapshots: { findImage(id: string): Promise<SavedSnapshot | null> };
  readonly clock: Clock;
}

/** When its guest first ran, on its axis. */
function ran({ axisMs, resumedMs }: RecordTime): number | null {
  return resumedMs === null ? null : axisMs + resumedMs;
}

/** From here on the home keeps ends for its servers. */
export function hostFacts({ host, snapshots, clock }: HomeParts): HostFacts {
  const { home } = host.data;
  const { registry } = host;
  keepEnds(home);
  const pulses = new Pulses();
  const refs = new Map<string, Pick<SandboxRecord, "ref" | "time">>();
  return {
    axis: openAxis(join(home, "server", "axis.json"), host.bootId, clock),
    owners: async () => new Set((await registry.list()).map(({ account }) => account)),
    async timeOf(id): Promise<FoundTime | null> {
      const time = (await registry.get(id))?.time;
      if (time !== undefined) {
        const { axisMs, movedMs, endsMs } = time;
        return { axisMs, sinceMs: axisMs + movedMs, endsMs: endsMs === null ? null : axisMs + endsMs };
      }
      const axis = (await snapshots.findImage(id))?.meta.axis;
      if (axis === undefined) return null;
      return { axisMs: axisNow(axis, { clock, host }), sinceMs: axis.atMs, endsMs: null };
    },
    ends: () => allEnds(home),
    endOf: (id) => endOf(home, id),
    async runs() {
      const living = (await registry.list()).map(({ id, time }) => ({
        ...{ sandbox: id, toMs: null },
        fromMs: time === undefined ? null : ran(time),
      }));
      const ended = allEnds(home).map((run) => ({
        ...{ sandbox: run.id, fromMs: ran(run.time), toMs: knownEnd(run)?.endMs ?? null },
      }));
      const isOver = ended.filter(({ fromMs, toMs }) => fromMs !== null && toMs !== null);
      return [...living.filter(({ fromMs }) => fromMs !== null), ...isOver];
    },
    forgetEnd: (id) => forgetEnd(home, id),
    async pulse(id) {
      const known = refs.get(id) ?? (await registry.get(id));
      if (known === null) return null;
      const { axisMs = 0, endsMs = null, resumedMs = null, cpuBeforeMs = null } = known.time ?? {};
      if (resumedMs !== null) refs.set(id, known); // else it is about to be written again
      const life = pulses.look(known.ref);
      if (life === null) return null;
      const cpuMs = cpuBeforeMs === null ? null : life.cpuMs();
      const cpuUsedMs = cpuMs === null || cpuBeforeMs === null ? null : Math.max(0, cpuMs - cpuBeforeMs);
      return { cpuUsedMs, endsMs: endsMs === null ? null : axisMs + endsMs };
    },
    async egressBytes(id) {
      const known = refs.get(id);
      return known === undefined ? null : (host.networkOf(known.ref)?.usage()?.bytesOut ?? null);
    },
    changed(id) {
      refs.delete(id);
      pulses.forget(id);
    },
  };
}
