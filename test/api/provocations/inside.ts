/** Failures of rows about what runs and lies in a sandbox. */
import type { RowName, table } from "../../../src/contract/table.ts";
import { garbage, hung, ofSandbox, type Provoke, unknownField, type Ways } from "./scene.ts";

const noProcess = (name: RowName): Ways<"process_not_found"> => ({
  process_not_found: (scene) => scene.ask(name, { process: 4242 }),
});
const late = (name: RowName, fields = {}) => ({ guest_unresponsive: hung(name, fields) });
const reaching = (name: RowName, fields = {}) => ({
  ...unknownField(name),
  ...ofSandbox(name, fields),
  ...late(name, fields),
});

const NO_PYTHON = "the guest in memory has no Python: test/suites/sandbox/contexts over VMs";
const noPython = (name: RowName) => ({
  ...reaching(name),
  context_not_found: ((scene) => scene.ask(name, { context: 4242 })) satisfies Provoke,
  guest_protocol: garbage(name),
});

/** `missing` and `file` are what a row says of a path that is not there, and of one that is of another kind. */
const file = (name: RowName, missing: Provoke | string, other: Provoke | string) => ({
  ...reaching(name, name === "archiveOut" || name === "listDirectory" ? { path: "/work" } : {}),
  file_not_found: missing,
  file_error: other,
});
const nowhere =
  (name: RowName): Provoke =>
  (scene) =>
    scene.ask(name, { path: "/no/such", ...(name === "chmod" ? { mode: "0600" } : {}) });
/** A file stands where a directory would have to be. */
const behindFile =
  (name: RowName, fields: Readonly<Record<string, unknown>> = {}): Provoke =>
  async (scene) => {
    await scene.api.engine.as("admin").writeFile({ id: scene.id, path: "/work/a", body: "a" });
    return scene.ask(name, { path: "/work/a/b", ...fields });
  };
const NO_TAR = "the guest in memory has no tar: test/suites/sandbox/files over VMs";
const ANY_KIND = "any kind of file can be asked for this";

type Row<K extends RowName> = Ways<(typeof table)[K]["errors"][number]>;

export const inside: { readonly [K in InsideRow]: Row<K> } = {
  exec: {
    ...reaching("exec"),
    guest_protocol: garbage("exec"),
    unsupported: "needs an agent from before terminals",
  },
  run: {
    ...reaching("run"),
    guest_protocol: garbage("run"),
    exec_timeout: (scene) => scene.ask("run", { cmd: "sleep 100", timeout_seconds: 0.05 }),
  },
  runFresh: {
    ...reaching("runFresh"),
    guest_protocol: garbage("runFresh"),
    exec_timeout: (scene) => scene.ask("runFresh", { language: "shell", code: "sleep 100", timeout_ms: 50 }),
  },
  stdin: { ...ofSandbox("stdin"), ...noProcess("stdin") },
  processes: ofSandbox("processes"),
  attach: { ...ofSandbox("attach"), ...noProcess("attach") },
  resizeTerminal: {
    ...unknownField("resizeTerminal"),
    ...ofSandbox("resizeTerminal"),
    ...noProcess("resizeTerminal"),
    unsupported: "needs an agent from before terminals",
  },
  signal: { ...unknownField("signal"), ...ofSandbox("signal"), ...noProcess("signal") },
  kill: { ...reaching("kill"), ...noProcess("kill") },
  terminal: { ...reaching("terminal"), ...noProcess("terminal") },
  execSocket: {
    not_found: (scene) => scene.ask("execSocket", { id: "sb_none" }),
    wrong_state: async (scene) => {
      await scene.closed();
      return scene.ask("execSocket");
    },
  },
  createContext: { ...reaching("createContext"), guest_protocol: garbage("createContext") },
  contexts: { ...reaching("contexts"), guest_protocol: garbage("contexts") },
  runCode: { ...noPython("runCode"), queue_full: NO_PYTHON },
  runCell: {
    ...noPython("runCell"),
    queue_full: NO_PYTHON,
    exec_timeout: "test/api/calls.test.ts, over a host that answers so",
  },
  interruptContext: noPython("interruptContext"),
  closeContext: noPython("closeContext"),
  readFile: file("readFile", nowhere("readFile"), (scene) => scene.ask("readFile", { path: "/work" })),
  writeFile: file("writeFile", behindFile("writeFile"), (scene) => scene.ask("writeFile", { path: "/work" })),
  stat: file("stat", nowhere("stat"), ANY_KIND),
  listDirectory: file("listDirectory", nowhere("listDirectory"), "what is no directory is not found as one"),
  mkdir: file("mkdir", behindFile("mkdir"), "a guest in memory has room for any directory"),
  rename: file("rename", nowhere("rename"), behindFile("rename", { path: "/work/a", to: "/tmp" })),
  chmod: file("chmod", nowhere("chmod"), ANY_KIND),
  removeFile: file("removeFile", nowhere("removeFile"), async (scene) => {
    await scene.ask("writeFile");
    return scene.ask("removeFile", { path: "/work" });
  }),
  watch: {
    ...file(
      "watch",
      nowhere("watch"),
      "a file can be watched too, and a guest that has no room for watches is in test/vm",
    ),
    unsupported: "needs an agent from before watches",
  },
  archiveOut: { ...file("archiveOut", NO_TAR, NO_TAR) },
  archiveIn: { ...file("archiveIn", NO_TAR, NO_TAR) },
  ports: { ...ofSandbox("ports"), ...late("ports"), guest_protocol: garbage("ports") },
  dial: {
    invalid_request: (scene) => scene.ask("dial", { port: 0 }),
    ...ofSandbox("dial"),
    guest_protocol: garbage("dial"),
    guest_unresponsive: hung("dial"),
  },
  logs: {
    ...unknownField("logs"),
    not_found: (scene) => scene.ask("logs", { id: "sb_none" }),
    wrong_state: "kept after its end, however it ended",
    sandbox_lost: "kept after its end, however it ended",
  },
  events: { ...unknownField("events"), not_found: (scene) => scene.ask("events", { id: "sb_none" }) },
  exposedPorts: reaching("exposedPorts"),
  exposePort: reaching("exposePort"),
  unexposePort: { not_found: (scene) => scene.ask("unexposePort", { port: 99 }) },
  previewToken: { ...unknownField("previewToken"), not_found: (scene) => scene.ask("previewToken", { id: "sb_none" }) },
};

export type InsideRow =
  | ("exec" | "run" | "runFresh" | "stdin" | "processes" | "attach" | "resizeTerminal" | "signal" | "kill" | "terminal")
  | ("execSocket" | "createContext" | "contexts" | "runCode" | "runCell" | "interruptContext" | "closeContext")
  | ("readFile" | "writeFile" | "stat" | "listDirectory" | "mkdir" | "rename" | "chmod" | "removeFile" | "watch")
  | ("archiveOut" | "archiveIn" | "ports" | "dial" | "logs" | "events" | "exposedPorts" | "exposePort")
  | ("unexposePort" | "previewToken");
