/**
 * Guests and forks of them from the parts below the engine, so that a step of a fork can be left out or come too late: what a
 * test says of forks has to be untrue of those.
 */
import { closeAll } from "../../../ffi/files.ts";
import { nonce } from "../../../src/base/id.ts";
import { createLog } from "../../../src/base/log.ts";
import { LOCAL_ACCOUNT, type Warren } from "../../../src/compose.ts";
import type { SandboxCreate } from "../../../src/contract/routes/sandboxes.ts";
import {
  type AwakeClone,
  type CloneParts,
  identify,
  prepareClone,
  wakeClone,
} from "../../../src/engine/create/clone.ts";
import { type ForkPoint, takeCheckpoint } from "../../../src/engine/fork/checkpoint.ts";
import { Live } from "../../../src/engine/live.ts";
import { newInfo, resolve, sizeOf } from "../../../src/engine/plan.ts";
import type { OpenTemplate } from "../../../src/engine/templates.ts";
import type { ExecRequest } from "../../../src/guest/agent.ts";
import type { Layer } from "../../../src/host/host.ts";
import { cloneDisk } from "../../../src/host/slots/leases.ts";

/** A guest that is up, as the engine sees a sandbox. */
export interface Guest {
  readonly live: Live;
  readonly body: AwakeClone;
}

/** What is wrong with a fork on purpose. `between` runs where the one pause was torn apart. */
export type Fault =
  /** No file system is frozen: disk, memory and state are still of one pause. */
  | { readonly kind: "no freeze" }
  /** The memory is written while the guest runs on. */
  | { readonly kind: "no pause" }
  /** The disk is of an earlier instant than memory and state, or of a later one. */
  | { readonly kind: "disk first" | "disk last"; readonly between: () => Promise<unknown> }
  /** The memory is of an earlier instant than disk and state. */
  | { readonly kind: "memory first"; readonly between: () => Promise<unknown> };

/** These guests stand on clones alone. */
const NO_NETWORK = { degraded: "not in these tests", exempt: [] };

export class Ground {
  readonly warren: Warren;
  readonly parts: CloneParts;

  constructor(warren: Warren) {
    const { driver, host, clock } = warren;
    this.warren = warren;
    this.parts = { driver, host, clock, log: createLog("error"), reseed: true };
  }

  async boot(undo: AsyncDisposableStack, input: SandboxCreate): Promise<Guest> {
    const { templates } = this.warren;
    const spec = resolve(input, (name) => templates.defaults(name), null, NO_NETWORK);
    return this.#wake(undo, await templates.open(sizeOf(spec)), input);
  }

  /** A child of a fork point; `signal` is for those that never come up. */
  child(undo: AsyncDisposableStack, from: Guest, { origin }: ForkPoint, signal?: AbortSignal): Promise<Guest> {
    const { template, memoryMib } = from.live.spec;
    return this.#wake(undo, origin, { template, memoryMb: memoryMib }, signal);
  }

  /** As the engine does it. */
  point({ live, body }: Guest): Promise<ForkPoint> {
    return takeCheckpoint(this.parts, live, body);
  }

  /** A fork point with one thing wrong; the guest goes on. */
  async faulty({ live, body }: Guest, fault: Fault): Promise<ForkPoint> {
    const { host } = this.parts;
    const { vmm, agent, lease } = body;
    using files = host.checkpoint({ memoryMib: live.spec.memoryMib, diskFd: lease.disk.roFd });
    const capture = async (): Promise<readonly Layer[]> => {
      const { runs, error } = await vmm.capture(files.memoryFd);
      const layer = files.layer(runs);
      body.undo.defer(() => layer.release());
      live.layers = [...live.layers, layer];
      if (error !== null) throw error;
      return live.layers;
    };
    const paused = async <T>(job: () => Promise<T>): Promise<T> => {
      await vmm.pause();
      try {
        return await job();
      } finally {
        await vmm.resume();
      }
    };
    const frozen = fault.kind !== "no freeze" && fault.kind !== "disk last";
    let layers: readonly Layer[] = [];
    const first = async (): Promise<void> => {
      if (fault.kind === "no pause" || fault.kind === "memory first") layers = await capture();
      if (fault.kind === "disk first") files.takeDisk();
    };
    await (fault.kind === "no pause" ? first() : paused(first));
    if (fault.kind === "memory first" || fault.kind === "disk first") await fault.between();
    if (frozen) await agent.freeze();
    await host.flushDisk(lease.disk.roFd);
    await paused(async () => {
      if (layers.length === 0) layers = await capture();
      await vmm.save(files.stateFd);
      if (fault.kind !== "disk first" && fault.kind !== "disk last") files.takeDisk();
    });
    if (frozen) await agent.thaw();
    if (fault.kind === "disk last") {
      await fault.between();
      await host.flushDisk(lease.disk.roFd);
      files.takeDisk();
    }
    const snapshot = files.snapshot(layers);
    const origin = { ...body.origin, snapshot, digest: nonce(), hold: () => () => undefined };
    return { origin, pauseMs: 0, changedBytes: 0, release: () => snapshot.release() };
  }

  /** What `e2fsck -fn` in `checker` says of the disk that the children of a point start with. */
  async checkDisk(checker: Guest, { origin }: ForkPoint): Promise<{ readonly code: number; readonly says: string }> {
    const { vmm, agent } = checker.body;
    const { rwFd, roFd } = cloneDisk(this.warren.host.data, origin.snapshot.diskFd);
    try {
      await vmm.insert(0, { fd: rwFd, sizeBytes: Bun.file(roFd).size, scratchFd: null });
    } finally {
      closeAll([rwFd, roFd]);
    }
    try {
      const said = await say(agent, ["/bin/sh", "-c", E2FSCK]);
      const code = /code (\d+)\n$/.exec(said)?.[1];
      if (code === undefined) throw new Error(`no verdict of e2fsck: ${said}`);
      return { code: Number(code), says: said };
    } finally {
      await vmm.eject(0);
    }
  }

  async #wake(
    undo: AsyncDisposableStack,
    origin: OpenTemplate,
    input: SandboxCreate,
    signal = new AbortController().signal,
  ): Promise<Guest> {
    const { templates, clock } = this.warren;
    const spec = resolve(input, (name) => templates.defaults(name), null, NO_NETWORK);
    const id = `fork-${nonce().slice(0, 10)}`;
    const own = new AsyncDisposableStack();
    const clone = await prepareClone(this.parts, id, origin, { deadlineNs: null, detached: false }, own, signal);
    undo.use(own);
    const body = await wakeClone(this.parts, clone, signal);
    await identify(this.parts, body, signal);
    const at = { wallMs: clock.wallMs(), cores: 1, ownerPid: process.pid, path: "none", parentId: null } as const;
    const live = new Live(LOCAL_ACCOUNT, spec, { ...newInfo(id, spec, at), state: "running" });
    live.body = body;
    live.layers = origin.snapshot.layers;
    return { live, body };
  }
}

/** The drive that is not the one we stand on, once its size is known. */
const E2FSCK = `
n=0
while read -r s </sys/block/vdb/size; [ "$s" -lt 2048 ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.05; done
e2fsck -fn /dev/vdb 2>&1
echo "code $?"
`;

/** What a command says, both streams; a code other than 0 is told behind it. */
export async function say(agent: AwakeClone["agent"], what: readonly string[] | ExecRequest): Promise<string> {
  let out = "";
  const request = "length" in what ? { argv: [...what] } : what;
  for await (const event of agent.exec({ cwd: "/root", timeoutSeconds: 100, ...request })) {
    if (event.kind === "stdout" || event.kind === "stderr") out += Buffer.from(event.bytes).toString();
    if (event.kind === "exit" && event.exitCode !== 0) out += `[${event.exitCode ?? event.signal}]`;
  }
  return out;
}
