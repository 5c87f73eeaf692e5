/** Whole results of commands and cells, as clients of the API ask for them. */
import { expect, test } from "bun:test";
import type { CellEvent } from "../../src/contract/routes/contexts.ts";
import type { SandboxHost } from "../../src/contract/routes.ts";
import { Api } from "./subject.ts";

async function box(api: Api): Promise<string> {
  return `/v1/sandboxes/${String((await api.call("POST", "/v1/sandboxes", {})).body["id"])}`;
}

test("exec answers with both outputs, the code and how long it took; args leave out the shell", async () => {
  await using api = await Api.start();
  const at = await box(api);
  const exec = async (body: object) => (await api.call("POST", `${at}/exec`, body)).body;
  expect(await exec({ cmd: "echo out; echo err >&2; exit 3" })).toMatchObject({
    ...{ stdout: "out\n", stderr: "err\n", exit_code: 3, signal: null, truncated: false },
    ...{ duration_ms: expect.any(Number), pid: expect.any(Number) },
  });
  expect(await exec({ cmd: "echo", args: ["a;b", "$HOME"] })).toMatchObject({ stdout: "a;b $HOME\n" });
  expect(await exec({ cmd: "cat", stdin: "given" })).toMatchObject({ stdout: "given" });
  expect(await exec({ cmd: "cat", stdin_base64: "/w==", encoding: "base64" })).toMatchObject({
    stdout: "\ufffd",
    stdout_base64: "/w==",
  });
  expect(await exec({ cmd: "yes", output_limit_bytes: 4, timeout_seconds: 0.2 })).toMatchObject({
    code: "exec_timeout",
  });
  expect(await exec({ cmd: "printf 123456", output_limit_bytes: 4 })).toMatchObject({
    stdout: "1234",
    truncated: true,
  });
  expect(await exec({ cmd: "kill -TERM $$" })).toMatchObject({ exit_code: 143, signal: "SIGTERM" });
});

test("exec that takes too long is answered with all that it printed until then", async () => {
  await using api = await Api.start();
  const at = await box(api);
  const late = await api.call("POST", `${at}/exec`, { cmd: "echo begun; sleep 1000", timeout_seconds: 0.2 });
  expect(late).toMatchObject({
    status: 504,
    body: { error: "exec timeout after 0.2s", code: "exec_timeout", timed_out: true, stdout: "begun\n", stderr: "" },
  });
  const stream = await api.raw("POST", `${at}/exec/stream`, { body: '{"cmd":"sleep 1000","timeout_seconds":0.2}' });
  expect(await stream.text()).toContain('event: error\ndata: {"error":"exec timeout after 0.2s","code":"exec_timeout"');
});

test("exec in the background is answered when it has begun, and is listed, signalled and killed", async () => {
  await using api = await Api.start();
  const at = await box(api);
  const begun = await api.call("POST", `${at}/exec`, { cmd: "sleep 1000", background: true });
  const { process } = begun.body as unknown as { process: number };
  expect(begun.body).toMatchObject({ stdout: "", exit_code: 0, process, pid: expect.any(Number) });
  expect((await api.call("GET", `${at}/processes`)).body).toMatchObject([{ process, running: true, background: true }]);
  expect((await api.raw("DELETE", `${at}/processes/${process}?signal=TERM`)).status).toBe(400);
  expect((await api.raw("DELETE", `${at}/processes/${process}`)).status).toBe(204);
  const attached = await api.raw("GET", `${at}/processes/${process}`);
  expect(await attached.text()).toContain('"exit_code":137,"signal":"SIGKILL"');
  expect((await api.raw("DELETE", `${at}/processes/4242?signal=15`)).status).toBe(404);
});

const END = { kind: "end", executionCount: 1, durationMs: 5, truncated: false, exitCode: null, signal: null } as const;

async function cell(events: readonly CellEvent[], ask: object = { code: "x" }) {
  const closed: number[] = [];
  const around = (host: SandboxHost): SandboxHost => ({
    ...host,
    createContext: async () => ({
      ...({
        context: 3,
        language: "python",
        state: "idle",
        cwd: "/",
        createdAt: "now",
        exitCode: null,
        signal: null,
      } as const),
    }),
    closeContext: async ({ context }) => void closed.push(context),
    runCode: async () =>
      (async function* () {
        yield* events;
      })(),
  });
  await using api = await Api.start({ around });
  const kept = await api.call("POST", "/v1/sandboxes/x/repl/sessions/3/run", ask);
  const fresh = await api.call("POST", "/v1/sandboxes/x/repl", ask);
  expect(fresh.status).toBe(kept.status);
  expect(closed).toEqual([3]);
  return kept;
}

test("A cell is answered with what it printed and showed", async () => {
  const { status, body } = await cell([
    { kind: "stdout", text: "a" },
    { kind: "stderr", text: "b" },
    { kind: "display", data: { "image/png": "AAAA" } },
    { kind: "result", data: { "text/plain": "1" } },
    { ...END, status: "ok" },
  ]);
  expect(status).toBe(200);
  expect(body).toEqual({
    ...{ results: [{ "image/png": "AAAA" }, { "text/plain": "1" }], stdout: "a", stderr: "b" },
    ...{ exit_code: 0, duration_ms: 5, truncated: false },
  } as never);
});

test("A cell that raises is answered with its traceback, one that is interrupted or dies with that", async () => {
  const raised = {
    kind: "error",
    name: "ValueError",
    value: "no",
    traceback: ["Traceback", "ValueError: no"],
  } satisfies CellEvent;
  expect((await cell([raised, { ...END, status: "error" }])).body).toMatchObject({
    exit_code: 1,
    error: "Traceback\nValueError: no",
  });
  expect((await cell([{ ...END, status: "interrupted" }])).body).toMatchObject({
    exit_code: 1,
    error: expect.stringContaining("interrupted"),
  });
  const dead = { ...END, status: "dead", signal: "SIGKILL" } as const;
  expect((await cell([dead])).body).toMatchObject({ exit_code: 1, error: expect.stringContaining("SIGKILL") });
});

test("A cell that takes too long is a timeout that clients know, with what it printed", async () => {
  const { status, body } = await cell(
    [
      { kind: "stdout", text: "a" },
      { ...END, status: "timeout" },
    ],
    { code: "x", timeout_ms: 1500 },
  );
  expect({ status, body }).toMatchObject({
    status: 504,
    body: { error: "exec timeout after 1.5s", code: "exec_timeout", timed_out: true, stdout: "a" },
  });
});

test("repl runs a shell too, and one that takes too long is a timeout", async () => {
  await using api = await Api.start();
  const at = await box(api);
  const repl = (body: object) => api.call("POST", `${at}/repl`, body);
  expect((await repl({ language: "shell", code: "echo hi; exit 2" })).body).toMatchObject({
    stdout: "hi\n",
    exit_code: 2,
    results: [],
  });
  expect((await repl({ language: "shell", code: "sleep 1000", timeout_ms: 100 })).status).toBe(504);
  expect((await repl({ language: "cobol", code: "" })).body).toMatchObject({ details: { field: "language" } });
});
