/**
 * What fields mean, for the document's readers: by the field's name on the wire, which means the same wherever it is; where it
 * does not, by what has it and the name.
 */
import type { Json } from "./schemas.ts";

const WORDS: Readonly<Record<string, string>> = {
  stdout: "What was printed, as text: U+FFFD for what is not UTF-8",
  stderr: "What was printed to the standard error, as text",
  stdout_base64: "The exact bytes, when `encoding` asked for them",
  stderr_base64: "The exact bytes, when `encoding` asked for them",
  exit_code: "Its own, or 128 and the number of the signal that ended it",
  "CodeContext.exit_code": "How a dead one ended",
  "CodeResult.exit_code": "0, or 1 when the code failed",
  signal: "For instance `SIGKILL`; null when none ended it",
  "signal.signal": "Number or name: 15, `SIGTERM`",
  "kill.signal": "Number or name; default `SIGKILL`",
  duration_ms: "Milliseconds on the guest's clock",
  truncated: "Some output was over the limit, and is not here",
  stdout_truncated: "Some of it was over the limit, and did not come",
  stderr_truncated: "Some of it was over the limit, and did not come",
  timed_out: "Its time was over, and it was ended with all that it had started",
  template: "Name of what it is restored from",
  from_snapshot: "Id or name of a snapshot to restore; the template and the size are then the snapshot's",
  cpu: "vCPUs",
  memory_mb: "MiB of memory",
  ttl_seconds: "Seconds until it ends by itself, whatever it does",
  "previewToken.ttl_seconds": "Seconds for which the URL works",
  "Lifecycle.ttl_seconds": "As last asked for; null: it has no end of its own",
  "setLifecycle.ttl_seconds": "Seconds from now; null takes the end away",
  "fork.ttl_seconds": "Seconds from now; at most, and by default, what the parent has left",
  "forkTree.ttl_seconds": "Seconds from now; at most, and by default, what the parent has left",
  idle_seconds: "After so long without a call or a stream of one under way, `idle_action` is done",
  "Lifecycle.idle_seconds": "For how long nobody has used it",
  idle_timeout_seconds: "After so long without use it ends, or hibernates when it is persistent; null: never",
  idle_action: "Default `close`",
  idle: "What becomes of it when nobody uses it; left out when nothing does",
  persistent: "It outlives its maker and hibernates when idle",
  detached: "It outlives the process that made it",
  metadata: "Words of yours, by which it is found again",
  env: "Environment variables",
  "create.env": "Environment variables of every command in it",
  workdir: "Working directory of every command that names none",
  cwd: "Working directory",
  user: "Name or number from the guest's `/etc/passwd`; default root",
  created_at: "RFC 3339, UTC",
  expires_at: "RFC 3339, UTC; null: never",
  baked_at: "RFC 3339, UTC",
  last_used_at: "RFC 3339, UTC; null: not yet",
  at: "RFC 3339, UTC",
  status: "`paused`: its memory stays, and it stands still. `hibernated`: on disk alone; any call wakes it",
  "AuditEntry.status": "HTTP status of the answer",
  reason: "Why, for people",
  create_ms: "Milliseconds from its admission to the guest's confirmation",
  create_path: "What was ready for it: nothing, a process, or a whole guest",
  boot_mode: "How it began",
  parent_id: "The sandbox that it was forked from",
  "Fork.parent_id": "The sandbox that was forked",
  "ForkTree.parent_id": "The sandbox that was forked",
  snapshot_id: "The snapshot that it, or what it was forked from, was restored from",
  volumes: "Volumes that it has",
  "create.volumes": "Attached before the answer; when one cannot be, there is no sandbox",
  egress: "What may leave it",
  egress_allowlist: "The same as `egress` of mode `allowlist` with these entries",
  secrets: "Headers that are set on its requests outside of it; the guest never sees their values",
  notes: "What was granted with a reservation, for people",
  owner_pid: "Process on the host that owns it",
  price_per_second_usd: "What a second of it costs as it runs; null: it has no price",
  allow: "Names, addresses and ranges, each with a port or a range of ports if wanted; only with `allowlist`",
  inspect: "Connections to ports 80 and 443 go through a proxy that holds Host and SNI to the same list",
  mbps: "Megabits per second, each way",
  new_connections_per_second: "Connections that it may begin each second",
  "Egress.mode": "`none`: nothing leaves. `allowlist`: what `allow` names. `open`: the public internet",
  "EffectiveEgress.mode": "`none`: nothing leaves. `allowlist`: what `allow` names. `open`: the public internet",
  "Egress.connections": "Open at one time",
  "EffectiveEgress.connections": "Open at one time",
  secret_hosts: "Hosts that have a secret",
  degraded: "Why this server cannot give sandboxes a network; null: it can",
  mount: "Where it is mounted; default `/volumes/NAME`",
  read_only: "Any number of sandboxes may read a volume at once, or one may write it",
  attached_to: "Ids of the sandboxes that have it",
  size_mb: "MiB",
  used_bytes: "What it takes on the server's disk",
  size_bytes: "Bytes on the server's disk",
  memory_bytes: "Of these, memory in which it differs from its template",
  disk_bytes: "Of these, disk that only it has",
  "Template.disk_bytes": "Of these, its root disk; 0 before the first bake",
  pause_ms: "Milliseconds for which the sandbox stood still",
  changed_bytes: "Bytes of memory that the parent had changed, which the children share with it",
  children: "All of them: there are as many as were asked for, or none",
  count: "How many",
  tree_id: "By which children of one fork-tree know each other",
  "promote.tree_id": "Default: the tree that its own metadata names",
  cleanup_siblings: "End every other child of the tree",
  winner: "The sandbox that stands alone now",
  deleted: "Siblings that were ended",
  failures: "Siblings that could not be: id → why",
  parent_snapshot_id: "The snapshot that its sandbox was restored from",
  sandbox_id: "The sandbox that it is of",
  baked: "Sizes with a snapshot ready to restore; another size is baked on first use",
  cmd: "A line for a shell; with `args`, a program",
  python: "Python, by the template's warm interpreter, instead of `cmd`",
  background: "Answer when it has started; it goes on, its last output kept",
  "Process.background": "It was started to go on by itself",
  stdin: "Given to it, and then closed",
  stdin_base64: "The same, of any bytes",
  stdin_open: "Keep its stdin open, for `POST …/processes/{process}/stdin`",
  timeout_seconds: "Enforced inside the guest on all that it started",
  timeout_ms: "The same in milliseconds; one of the two",
  output_limit_bytes: "Kept of stdout and of stderr each; the rest is counted, dropped and told",
  terminal: "Run in a terminal of this size: its output is all `stdout`",
  process: "Number of a command in its sandbox",
  pid: "In the guest",
  command: "As it was started",
  context: "Id of a code context",
  language: "`py` and `python3` are `python` too",
  code: "Source text; of `python`, written to its `path` first",
  results: "One flat map from MIME type to text for each value shown; images are base64",
  "CodeResult.error": "The traceback of code that failed",
  chunk: "Text, never cut inside a character",
  chunk_base64: "Exact bytes, when `encoding` asked for them",
  path: "Absolute, in the guest",
  "bootStats.path": "What was ready",
  to: "Absolute, in the guest",
  "SandboxEvent.to": "State",
  from: "State",
  name_base64: "The exact bytes of a name that is not UTF-8",
  mtime: "Seconds since the Unix epoch, fractional",
  is_dir: "The same as type `directory`",
  "File.size": "Bytes",
  offset: "First byte",
  length: "Bytes, at most",
  recursive: "All below it as well",
  entries: "By name",
  bytes: "Written",
  port: "TCP port in the guest",
  host: "Default `127.0.0.1`, and `::1` when nothing listens there",
  "create.host": "Name of the host that gets the header",
  listening: "A program listens on it now",
  source: "`detected`: a program listens on it. `declared`: it was given a label",
  paths: "Exact ones (`/report.html`), or all below one (`/static/*`); default all",
  label: "A name of yours",
  follow: "Go on with what comes, as server-sent events",
  tail: "Only so many, the last",
  stream: "`exec`: what commands printed, on either; `kernel`: what the guest's kernel said",
  limit: "At most so many",
  cursor: "Where to go on: `X-Next-Cursor` of the page before",
  before: "Only what was before it, RFC 3339",
  scopes: "What the key may do; default what the asking key may, without `admin`",
  prefix: "By which a key is known and revoked",
  token: "The key itself, told this once",
  "previewToken.token": "Part of the URL",
  expires_in_days: "Default: never",
  quota: "At one time; null: as much as the host has",
  storage_mb: "Volumes at their nominal size, snapshots and hibernated sandboxes as they are on disk",
  credit_usd: "Prepaid and not used yet, exact; null: it is not prepaid",
  suspended: "Its keys are refused; what runs goes on",
  actor: "Prefix of the key, or `server`",
  action: "Name of the operation",
  "Sandbox.action": "What is done when its time is over",
  target: "What it was done to",
  events: "`sandbox.running`, `sandbox.deleted`, …, or `*`; default all",
  "networkLog.events": "Oldest first",
  lost: "Rows that were not kept",
  secret: "Signs the events, told this once",
  waiting: "Deliveries that wait for their next try",
  last_status: "HTTP status of the last delivery; null: it never came to an answer",
  host_memory_bytes: "Charged to it on the host",
  host_cpu_ms: "CPU time that it has used on the host",
  host_pss_bytes: "Proportional part of its process in the host's memory",
  host_rss_bytes: "Its process in the host's memory",
  guest_cpu_ms: "As its guest says, which may lie",
  force: "Throw away what is there, and build again",
};

const isJson = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);

function wordOf(owner: string, field: string): string | undefined {
  const own = `${owner}.${field}`;
  if (Object.hasOwn(WORDS, own)) return WORDS[own];
  return Object.hasOwn(WORDS, field) ? WORDS[field] : undefined;
}

function fieldOf(owner: string, field: string, value: unknown): unknown {
  const inside = worded(owner, value);
  const word = wordOf(owner, field);
  return isJson(inside) && word !== undefined && inside["description"] === undefined
    ? { ...inside, description: word }
    : inside;
}

/** A schema, or anything with schemas in it, in which fields say what they mean. `owner` is the component's or operation's name. */
export function worded(owner: string, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((one) => worded(owner, one));
  if (!isJson(value)) return value;
  const entries = Object.entries(value).map(([key, one]): [string, unknown] => {
    if (key !== "properties" || !isJson(one)) return [key, worded(owner, one)];
    const fields = Object.entries(one).map(([field, schema]) => [field, fieldOf(owner, field, schema)]);
    return [key, Object.fromEntries(fields)];
  });
  return Object.fromEntries(entries);
}

/** Of a parameter. */
export function meaning(owner: string, field: string): { readonly description?: string } {
  const word = wordOf(owner, field);
  return word === undefined ? {} : { description: word };
}

/** Every field that has a word, for the test that none is left over. */
export const fieldsWithWords: readonly string[] = Object.keys(WORDS);
