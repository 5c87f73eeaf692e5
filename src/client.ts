/**
 * The package's client, `warren/client`: sandboxes of a server, for Bun, Node from 20 on, and browsers. It takes all from its
 * options and reads no environment: `connect({ url: process.env.WARREN_API, key: process.env.WARREN_API_KEY })`.
 */
export type { Body, CallOptions, Scope } from "./contract/route.ts";
export type { AccountInfo, Me, NewToken, Quota, TokenInfo } from "./contract/routes/api/accounts.ts";
export type {
  BillTo,
  Invoice,
  InvoiceInfo,
  InvoiceLine,
  PlanInfo,
  PriceInfo,
  PriceList,
  Pricing,
  SandboxUsage,
  Settlement,
  SinkInfo,
  UsageEntry,
  UsageReport,
  UsageRow,
} from "./contract/routes/api/billing.ts";
export type {
  CodeResult,
  CommandResult,
  ExposedPort,
  PreviewToken,
  SandboxEventInfo,
} from "./contract/routes/api/calls.ts";
export type { WebhookInfo } from "./contract/routes/api/webhooks.ts";
export type { CellEvent, ContextInfo, MimeBundle } from "./contract/routes/contexts.ts";
export type { ExecEvent, ProcessInfo, PythonRun } from "./contract/routes/exec.ts";
export type { FileInfo, WatchEvent } from "./contract/routes/files.ts";
export type { Egress, NetworkEvent, NetworkInfo, Secret } from "./contract/routes/network.ts";
export type { PortInfo } from "./contract/routes/ports.ts";
export type { LifecycleInfo, SandboxInfo, SandboxMetrics, SandboxState } from "./contract/routes/sandboxes.ts";
export type { SnapshotInfo } from "./contract/routes/snapshots.ts";
export type { BakeEvent, TemplateInfo } from "./contract/routes/templates.ts";
export type { AttachedVolume, VolumeInfo, VolumeMount } from "./contract/routes/volumes.ts";
export type { SandboxHost } from "./contract/routes.ts";
export type { ApiHost } from "./contract/table.ts";
export { ERRORS, type ErrorCode, type Fault, isWarrenError, WarrenError } from "./errors.ts";
export type { ExecResult } from "./sandbox/collect.ts";
export type { CellOptions, CellResult, ContextOptions, SandboxContext, SandboxContexts } from "./sandbox/contexts.ts";
export type { Candidate, Exploration, ExploreOptions, Outcome } from "./sandbox/explore.ts";
export type { SandboxFiles } from "./sandbox/files.ts";
export type { ForwardOptions, PortConnection, PortForward, PortRequest, WebSocketOptions } from "./sandbox/ports.ts";
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
export { type Client, type ConnectOptions, connect } from "./sdk/client.ts";
