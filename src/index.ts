/**
 * The package, embedded: `Sandbox`, `batch`, and `openWarren` for those who want to choose their home or pool. The first
 * sandbox opens the default home of this process; when the process ends, whatever was not detached ends with it.
 */
import { type BatchOptions, batch as batchOver } from "./batch/batch.ts";
import type { Item } from "./batch/items/item.ts";
import type { Row } from "./batch/row.ts";
import { batchParts, openWarren, type Warren } from "./compose.ts";
import { setDefaultHost } from "./sandbox/default-host.ts";

export type { BatchOptions } from "./batch/batch.ts";
export type { Item } from "./batch/items/item.ts";
export type { Artifact, Row } from "./batch/row.ts";
export { openWarren, type Warren, type WarrenOptions } from "./compose.ts";
export type { Move } from "./contract/move.ts";
export type { Body, CallOptions } from "./contract/route.ts";
export type { CellEvent, ContextInfo, MimeBundle } from "./contract/routes/contexts.ts";
export type { ExecEvent, ProcessInfo, PythonRun } from "./contract/routes/exec.ts";
export type { FileInfo } from "./contract/routes/files.ts";
export type { Egress, NetworkEvent, NetworkInfo, Secret } from "./contract/routes/network.ts";
export type { PortInfo } from "./contract/routes/ports.ts";
export type { SandboxInfo, SandboxState } from "./contract/routes/sandboxes.ts";
export type { SnapshotInfo } from "./contract/routes/snapshots.ts";
export type { BakeEvent, TemplateInfo } from "./contract/routes/templates.ts";
export type { AttachedVolume, VolumeInfo, VolumeMount } from "./contract/routes/volumes.ts";
export type { SandboxHost } from "./contract/routes.ts";
export { ERRORS, type ErrorCode, type Fault, isWarrenError, WarrenError } from "./errors.ts";
export type { ExecResult } from "./sandbox/collect.ts";
export type { CellOptions, CellResult, ContextOptions, SandboxContext, SandboxContexts } from "./sandbox/contexts.ts";
export type { Candidate, Exploration, ExploreOptions, Outcome } from "./sandbox/explore.ts";
export type { SandboxFiles } from "./sandbox/files.ts";
export type {
  ForwardOptions,
  PortConnection,
  PortForward,
  PortRequest,
  WebSocketOptions,
} from "./sandbox/ports.ts";
export type { SandboxProcess } from "./sandbox/process.ts";
export { Snapshot, type SnapshotOptions } from "./sandbox/snapshots.ts";
export { type MountOptions, Volume, type VolumeOptions } from "./sandbox/volume.ts";
export {
  type Command,
  type CreateOptions,
  type ExecOptions,
  type ForkOptions,
  type ListOptions,
  type PythonOptions,
  Sandbox,
  type SpawnOptions,
} from "./sandbox.ts";

let opened: Promise<Warren> | null = null;

/** The home of this process, opened once; a failure is not remembered, so that its remedy can be tried. */
export function defaultWarren(): Promise<Warren> {
  opened ??= openWarren().catch((cause: unknown) => {
    opened = null;
    throw cause;
  });
  return opened;
}

setDefaultHost(async () => (await defaultWarren()).sandboxes);

/**
 * Runs each item in a sandbox of its own and yields its row, in item order. A failed item is a row, never an end.
 * @throws {WarrenError} `invalid_request` – an item or option that cannot be used; else what no item could have got past.
 * @example
 * for await (const row of batch([{ id: 1, code: "print(6 * 7)" }])) console.log(row.id, row.stdout);
 */
export async function* batch(
  items: Iterable<Item> | AsyncIterable<Item>,
  options: BatchOptions = {},
): AsyncGenerator<Row> {
  yield* batchOver(batchParts(await defaultWarren()), items, options);
}
