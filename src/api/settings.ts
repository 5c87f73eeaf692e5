/** Defaults of an API's settings: what a server has that says nothing. */
import type { ApiSettings } from "./parts.ts";

export const DEFAULT_SETTINGS: ApiSettings = {
  version: "0.1.0",
  node: "local",
  publicUrl: null,
  previewSuffix: null,
  corsOrigins: [],
  defaultTtlSeconds: 3600,
  persistentIdleSeconds: 300,
  bodyBytes: 8 * 1024 * 1024,
  requestsPerSecond: null,
  bakeWaitMs: 15_000,
  createWaitMs: 20_000,
  socketCommands: 64,
  terminalKeepMs: 60_000,
  pingMs: 15_000,
  drainMs: 10_000,
  webhooks: true,
  webhooksToPrivate: false,
  openMetrics: false,
  seller: { name: "Warren", address: [] },
};
