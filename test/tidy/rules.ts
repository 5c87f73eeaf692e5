/** The rules themselves, as data: the layer table, the doors, and what no text may hold. */

/**
 * Unit of the source → what it may import besides itself. `shared` is open to all. A path that ends in `.ts` opens that
 * one file: an interface that is implemented lower down than where it is declared.
 */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  base: ["errors"],
  limits: ["base"],
  contract: ["errors", "base", "limits"],
  ffi: ["shared"],
  host: ["shared", "ffi", "src/driver/driver.ts", "src/engine/registry.ts"],
  driver: ["shared", "host", "src/driver/driver.ts", "src/driver/socket.ts", "src/driver/process.ts"],
  // The fake speaks the guest's side of the protocol on real frames.
  "driver/fake": ["shared", "guest", "src/driver/driver.ts"],
  "driver/qemu": ["shared", "host", "src/driver/driver.ts", "src/driver/socket.ts", "src/driver/process.ts"],
  "driver/firecracker": ["shared", "host", "src/driver/driver.ts", "src/driver/socket.ts", "src/driver/process.ts"],
  "driver/pick": ["shared", "host", "driver", "driver/qemu", "driver/firecracker"],
  guest: ["shared", "src/driver/driver.ts"],
  images: ["shared"],
  template: ["shared", "guest", "driver", "host", "images", "src/engine/templates.ts"],
  snapshot: ["shared", "driver", "host", "template", "src/engine/templates.ts", "src/engine/snapshots.ts"],
  volume: ["shared", "host", "src/engine/volumes/store.ts"],
  egress: ["shared", "src/host/network.ts"],
  engine: ["shared", "guest", "egress", "src/driver/driver.ts", "src/host/host.ts", "src/host/network.ts"],
  keeper: [
    "shared",
    "egress",
    "host",
    "config",
    "src/driver/driver.ts",
    "src/driver/socket.ts",
    "src/engine/registry.ts",
    "src/engine/network/keeper.ts",
  ],
  sandbox: ["shared"],
  meter: ["shared"],
  report: ["shared", "meter"],
  batch: ["shared", "sandbox", "meter"],
  db: ["shared", "meter", "src/api/store.ts", "src/api/billing.ts"],
  api: ["shared", "sandbox", "meter", "report"],
  // Wire formats of who bills for us, over the one way out that webhooks have.
  sinks: [
    "shared",
    "src/api/billing.ts",
    "src/api/edge/webhooks/address.ts",
    "src/api/edge/webhooks/reply.ts",
    "src/api/edge/webhooks/sign.ts",
    "src/api/edge/webhooks/within.ts",
  ],
  sdk: ["shared", "sandbox"],
  client: ["shared", "sandbox", "sdk"],
  config: ["shared"],
  cli: ["*"],
  compose: ["*"],
  index: ["*"],
  server: ["*"],
};
const SHARED = new Set(["errors", "base", "limits", "contract"]);

/** The unit that a path of the tree belongs to: `src/engine/plan.ts` → `engine`; drivers count one by one. */
function unitOf(path: string): string {
  if (/^(ffi|images)\//.test(path)) return path.split("/")[0] ?? "";
  const parts = path.replace(/^src\//, "").split("/");
  const first = (parts[0] ?? "").replace(/\.ts$/, "");
  if (first !== "driver") return first;
  const second = (parts[1] ?? "").replace(/\.ts$/, "");
  return ["qemu", "firecracker", "fake", "pick"].includes(second) ? `driver/${second}` : "driver";
}

/** Null when `from` may import `target`, else why not. */
export function allowedImport(from: string, target: string): string | null {
  if (!/^(src|ffi|images)\//.test(target)) return null; // packages: doors decide
  const [unit, wanted] = [unitOf(from), unitOf(target)];
  if (unit === wanted) return null;
  const may = MAY_IMPORT[unit];
  if (may === undefined) return `${unit} has no row in the layer table`;
  if (wanted === "ffi" && unit !== "host") return "only host imports ffi";
  if (may.includes("*") || may.includes(wanted) || may.includes(target)) return null;
  if (may.includes("shared") && SHARED.has(wanted)) return null;
  return `${unit} may not import ${wanted}`;
}

const FILES_PER_FOLDER = 15;
/** Data: programs of users as they come, one file each, which tests run and nobody reads through. */
const DATA_FOLDERS = new Set(["test/examples/programs"]);

/** Folders with too many files of code right in them, with how many. */
export function crowded(paths: readonly string[]): string[] {
  const folders = Map.groupBy(paths, (path) => path.slice(0, path.lastIndexOf("/")));
  return [...folders]
    .filter(([folder, held]) => held.length > FILES_PER_FOLDER && !DATA_FOLDERS.has(folder))
    .map(([folder, held]) => `${folder} holds ${held.length} files, more than ${FILES_PER_FOLDER}`);
}

interface Door {
  readonly what: string;
  readonly pattern: RegExp;
  readonly allowed: RegExp;
}

/** What is used, how that looks, and the only place for it. */
export const DOORS: readonly Door[] = [
  { what: "bun:ffi", pattern: /"bun:ffi"/, allowed: /^ffi\/open\.ts$/ },
  { what: "the opened library", pattern: /from "(\.|.*\/ffi)\/open\.ts"/, allowed: /^ffi\/native\.ts$/ },
  {
    what: "processes",
    pattern: /\bBun\.(spawn|\$)|child_process|\{[^}]*\$[^}]*\} from "bun"/,
    allowed: /^src\/host\/run\.ts$/,
  },
  { what: "the environment", pattern: /\bprocess\.env\b|\bBun\.env\b|import\.meta\.env/, allowed: /^src\/config\.ts$/ },
  {
    what: "time",
    pattern:
      /\bDate\.now\b|\bnew Date\(\)|\bperformance\.now\b|\bset(Timeout|Interval)\(|\bBun\.(nanoseconds|sleep)|AbortSignal\.timeout/,
    allowed: /^src\/base\/clock\.ts$/,
  },
  {
    what: "randomness",
    pattern: /\bMath\.random|\bgetRandomValues|\brandomUUID|\brandomBytes\(\s*\d*\s*\)\s*;.*node:crypto|"nanoid"/,
    allowed: /^src\/base\/id\.ts$/,
  },
  { what: "hono", pattern: /from "(@hono\/|hono)/, allowed: /^src\/api\// },
  { what: "drizzle", pattern: /from "drizzle/, allowed: /^src\/db\// },
  {
    what: "a database",
    pattern: /(from |import\()"(bun:sqlite|postgres|@electric-sql\/pglite)|\bBun\.(sql|SQL)\b/,
    allowed: /^src\/db\//,
  },
];

interface TextRule {
  readonly what: string;
  readonly pattern: RegExp;
  readonly only?: RegExp;
  readonly except?: RegExp;
}

const TS = /\.tsx?$/;
const HOSTS =
  "localhost|127\\.0\\.0\\.1|\\[::1\\]|[\\w.-]*\\.(?:test|invalid|example)|example\\.(?:com|org)|\\$\\{|%s|t\\b|x\\b";

/** What no line of any file may hold. */
export const TEXT_RULES: readonly TextRule[] = [
  { what: "unfinished", pattern: /\b(TODO|FIXME|XXX|HACK)\b/ },
  { what: "any", pattern: /(:\s*any\b|\bas any\b|<any>|\bany\[\]|,\s*any>)/, only: TS },
  { what: "suppressed check", pattern: /@ts-(ignore|expect-error|nocheck)|biome-ignore(?!.*: \S)/, only: TS },
  { what: "default export", pattern: /^export default\b/, only: TS },
  {
    what: "a path of one machine",
    pattern: /\/work\/(main|shared)\b|\/tmp\/w\/|(?<![\w.}-])\/home\/\w|\/Users\/\w|\/root\/\.\w/,
  },
  {
    what: "a host name",
    pattern: new RegExp(`https?://(?!${HOSTS})[\\w[]`),
    except: /^src\/config\.ts$|\.md$|^images\/templates\/|LICENSE/,
  },
  {
    what: "how it is developed",
    pattern:
      /(?<!-)\b(issues?|seeds?) #?0*\d{1,3}\b|\b(HOUSE|MECHANISM|NATIVE|HELPERS|ANCHORS)\.md\b|\bthis session\b|\b(Claude|ChatGPT said|Copilot|LLM wrote)\b/i,
  },
];
