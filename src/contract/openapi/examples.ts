/** Bodies as people send them: what the document shows of an operation, and what its page has ready to be sent. */
import type { RowName } from "../table.ts";
import type { Json } from "./schemas.ts";

const CODE: Json = { code: "print(6 * 7)" };

/** Rows whose body needs nothing may be left out: they are shown with an empty one. */
const EXAMPLES: { readonly [K in RowName]?: Json } = {
  create: { template: "code-interpreter", ttl_seconds: 600 },
  setLifecycle: { ttl_seconds: 3600 },
  exec: { cmd: "for n in 1 2 3; do echo $n; sleep 1; done", timeout_seconds: 20 },
  run: { cmd: "echo hello", timeout_seconds: 20 },
  runFresh: CODE,
  createContext: { language: "python" },
  runCode: CODE,
  runCell: CODE,
  resizeTerminal: { rows: 40, cols: 120 },
  signal: { signal: "SIGTERM" },
  mkdir: { path: "/work/new" },
  rename: { from: "/work/a", to: "/work/b" },
  chmod: { path: "/work/a", mode: "0644" },
  fork: { ttl_seconds: 60 },
  forkTree: { count: 3 },
  promote: { cleanup_siblings: true },
  setNetwork: { egress: { mode: "allowlist", allow: ["pypi.org", "*.pythonhosted.org:443"] } },
  snapshot: { name: "installed" },
  promoteSnapshot: { name: "my-tools" },
  createVolume: { name: "data", size_mb: 1024 },
  resizeVolume: { size_mb: 2048 },
  attachVolume: { name: "data", mount: "/workspace" },
  exposePort: { port: 8000 },
  previewToken: { port: 8000, ttl_seconds: 600 },
  createToken: { label: "reads only", scopes: ["sandbox:read"] },
  createAccount: { id: "acme", name: "Acme Ltd", quota: { sandboxes: 20, vcpus: 40 } },
  updateAccount: { suspended: true },
  createAccountToken: { label: "first" },
  setPrices: { currency: "USD", from_day: "2030-01-01", prices: { vcpu_ms: "0.000012", memory_mib_ms: "0.000005" } },
  setPlan: { list: "default", minimum: "20", included: { egress_bytes: "107374182400" } },
  subscribe: { plan: "team", from_day: "2030-01-01" },
  correct: { entry: "4711", quantity: "0", reason: "the host was at fault" },
  createSink: { id: "meter", kind: "openmeter", url: "https://openmeter.example/api/v1/events", token: "om_secret" },
  createWebhook: { url: "https://hooks.example/warren", events: ["sandbox.deleted"] },
};

/** What is shown of a row's JSON body. */
export function exampleOf(name: RowName): Json {
  return EXAMPLES[name] ?? {};
}
