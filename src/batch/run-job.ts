/**
 * One job in one sandbox that exists: files in, program, artifacts out. Stages are told apart, since a fault before the
 * program's first instruction cannot be the program's doing.
 */
import { createReadStream } from "node:fs";
import type { Clock } from "../base/clock.ts";
import { type Exec, type ExecEvent, PYTHON_PATH } from "../contract/routes/exec.ts";
import type { SandboxHost } from "../contract/routes.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { collect, Unfinished } from "./artifacts/collect.ts";
import type { ArtifactSink } from "./artifacts/sink.ts";
import { Capture } from "./capture.ts";
import { INPUT_PATH, type Job, type JobFile, WORK } from "./items/item.ts";
import type { LocalFiles } from "./items/local-files.ts";
import type { Ran } from "./row.ts";

export interface JobContext {
  readonly host: SandboxHost;
  readonly clock: Clock;
  readonly sink: ArtifactSink;
  readonly local: LocalFiles;
  /** For items that name none. */
  readonly timeoutSeconds: number;
  /** Bytes kept of each output stream. */
  readonly outputBytes: number;
}

export type Stage = "setup" | "run" | "collect";

/** A job that got as far as it got. */
export interface Attempt {
  readonly ran: Ran;
  readonly execMs: number;
  /** What broke, and when; null when the sandbox held. */
  readonly fault: { readonly stage: Stage; readonly cause: unknown } | null;
}

type Exit = Extract<ExecEvent, { kind: "exit" }>;

/** What a running program has left so far, whether or not its exit is ever seen. */
interface Seen {
  readonly stdout: Capture;
  readonly stderr: Capture;
  exit: Exit | null;
}

async function contentOf(file: JobFile, local: LocalFiles): Promise<Uint8Array | AsyncIterable<Uint8Array>> {
  return file.kind === "bytes" ? file.bytes : createReadStream(await local.resolve(file.local));
}

/** Everything that has to be in the sandbox before the program starts. */
async function setUp(context: JobContext, id: string, job: Job, signal: AbortSignal): Promise<void> {
  const { host, local } = context;
  for (const file of job.files) {
    await host.writeFile({ id, path: file.path, body: await contentOf(file, local) }, { signal });
  }
  if (job.input !== null) await host.writeFile({ id, path: INPUT_PATH, body: job.input }, { signal });
}

function execOf(context: JobContext, id: string, job: Job, timeoutSeconds: number): Exec {
  const { program } = job;
  return {
    id,
    ...(program.kind === "code" ? { python: { code: program.text, path: PYTHON_PATH } } : { cmd: program.text }),
    cwd: WORK,
    ...(job.input === null ? {} : { stdin: job.input }),
    timeoutSeconds,
    outputLimitBytes: context.outputBytes,
  };
}

async function follow(events: AsyncIterable<ExecEvent>, seen: Seen): Promise<void> {
  for await (const event of events) {
    if (event.kind === "stdout") seen.stdout.add(event.bytes);
    else if (event.kind === "stderr") seen.stderr.add(event.bytes);
    else if (event.kind === "exit") {
      seen.exit = event;
      return;
    }
  }
  throw new WarrenError("guest_protocol", "the program's output ended without its exit");
}

function ranOf(seen: Seen, timeoutSeconds: number, rest: Pick<Ran, "artifacts" | "problem">): Ran {
  const { exit, stdout, stderr } = seen;
  return {
    exit: exit && {
      exitCode: exit.exitCode,
      signal: exit.signal,
      timedOut: exit.timedOut,
      truncated: exit.stdoutTruncated || exit.stderrTruncated || stdout.cut || stderr.cut,
    },
    stdout: stdout.bytes(),
    stderr: stderr.bytes(),
    timeoutSeconds,
    ...rest,
  };
}

/** Runs `job` in `sandbox`. @throws only what `signal` was aborted with; every other failure is in the answer. */
export async function runJob(context: JobContext, sandbox: string, job: Job, signal: AbortSignal): Promise<Attempt> {
  const timeoutSeconds = job.timeoutSeconds ?? context.timeoutSeconds;
  const seen: Seen = { stdout: new Capture(context.outputBytes), stderr: new Capture(context.outputBytes), exit: null };
  let stage: Stage = "setup";
  let startedMs: number | null = null;
  let endedMs: number | null = null;
  const attempt = (rest: Pick<Ran, "artifacts" | "problem">, fault: Attempt["fault"]): Attempt => ({
    ran: ranOf(seen, timeoutSeconds, rest),
    execMs: startedMs === null ? 0 : (endedMs ?? context.clock.monotonicMs()) - startedMs,
    fault,
  });
  try {
    await within(context.clock, LIMITS.batchTransferMs, signal, (s) => setUp(context, sandbox, job, s));
    stage = "run";
    startedMs = context.clock.monotonicMs();
    // The guest enforces the timeout and the host gives up on a silent guest; this is for a host that does not.
    const atMostMs = timeoutSeconds * 1000 + 2 * LIMITS.guestGraceMs + LIMITS.guestRequestMs;
    await within(context.clock, atMostMs, signal, async (s) =>
      follow(await context.host.exec(execOf(context, sandbox, job, timeoutSeconds), { signal: s }), seen),
    );
    endedMs = context.clock.monotonicMs();
    stage = "collect";
    const { artifacts, problems } = await within(context.clock, LIMITS.batchTransferMs, signal, (s) =>
      collect({ host: context.host, sandbox, key: job.key, paths: job.outputPaths, sink: context.sink, signal: s }),
    );
    return attempt({ artifacts, problem: problems.length === 0 ? null : problems.join("; ") }, null);
  } catch (caught) {
    if (signal.aborted) throw signal.reason;
    const cause = caught instanceof Unfinished ? caught.cause : caught;
    const artifacts = caught instanceof Unfinished ? caught.collected.artifacts : [];
    return attempt({ artifacts, problem: saysOf(stage, cause) }, { stage, cause });
  }
}

const DOING: Readonly<Record<Stage, string>> = {
  setup: "while its files were written",
  run: "while it ran",
  collect: "while its artifacts were read",
};

function saysOf(stage: Stage, cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  if (cause instanceof WarrenError && cause.fault === "caller") return message;
  return `${DOING[stage]}: ${message}`;
}

/** Ends with the job, at its deadline, or when `signal` is aborted, whether or not the job listens. */
async function within<T>(
  clock: Clock,
  ms: number,
  signal: AbortSignal,
  job: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController();
  const says = `no end within ${Math.round(ms / 1000)} s`;
  const cancel = clock.after(ms, () => late.abort(new WarrenError("guest_unresponsive", says)));
  const either = AbortSignal.any([signal, late.signal]);
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const stop = () => reject(either.reason);
  either.addEventListener("abort", stop, { once: true });
  try {
    if (either.aborted) throw either.reason;
    return await Promise.race([job(either), aborted]);
  } catch (cause) {
    throw either.aborted ? either.reason : cause;
  } finally {
    cancel();
    either.removeEventListener("abort", stop);
  }
}
