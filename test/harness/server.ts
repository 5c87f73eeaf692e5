/** `warren serve` as a process of its own, for tests and benchmarks that measure or kill it: started, waited for, ended. */
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";

const ROOT = join(import.meta.dir, "../..");
/** As keys look; only ever on loopback. */
export const ADMIN_KEY = `wrn_${"t".repeat(43)}`;
const LOOK_MS = 50;

export interface ServerProcess extends AsyncDisposable {
  readonly url: string;
  readonly key: string;
  readonly pid: number;
  /** All that it wrote to stderr so far. */
  said(): string;
  /** Ends it by this signal and waits. */
  end(signal: "SIGTERM" | "SIGKILL"): Promise<number>;
}

export interface ServerAsk {
  readonly home: string;
  readonly databaseUrl?: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** What starts it, for instance a limit on its memory. */
  readonly under?: readonly string[];
  /** A module that it imports first, for instance one that notes what it does. */
  readonly preload?: string;
  /** Templates may have to be baked first. */
  readonly readyMs?: number;
}

/** Resolves when `/healthz` says that it is ready. @throws with its last words when it is not in time */
export async function startServerProcess(ask: ServerAsk): Promise<ServerProcess> {
  const port = freePort();
  const url = `http://127.0.0.1:${port}`;
  const main = join(ROOT, "src/cli/main.ts");
  const preload = ask.preload === undefined ? [] : ["--preload", ask.preload];
  const argv = [
    ...(ask.under ?? []),
    process.execPath,
    ...preload,
    main,
    "serve",
    "--allow-emulation",
    ...(ask.args ?? []),
  ];
  const child = Bun.spawn(argv, {
    cwd: ROOT,
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
    env: {
      ...process.env,
      WARREN_HOME: ask.home,
      WARREN_LISTEN: `127.0.0.1:${port}`,
      WARREN_ADMIN_KEY: ADMIN_KEY,
      ...(ask.databaseUrl !== undefined && { DATABASE_URL: ask.databaseUrl }),
      ...ask.env,
    },
  });
  let text = "";
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stderr) text = (text + decoder.decode(chunk, { stream: true })).slice(-65_536);
  })();
  const end = async (signal: "SIGTERM" | "SIGKILL"): Promise<number> => {
    child.kill(signal);
    const code = await child.exited;
    await reading;
    return code;
  };
  const endMs = systemClock.monotonicMs() + (ask.readyMs ?? 60_000);
  for (;;) {
    const answer = await fetch(`${url}/healthz`).catch(() => null); // it does not listen yet
    await answer?.arrayBuffer();
    if (answer?.status === 200) break;
    if (child.exitCode !== null || systemClock.monotonicMs() > endMs) {
      await end("SIGKILL");
      throw new Error(`the server did not become ready:\n${text}`);
    }
    await systemClock.sleep(LOOK_MS);
  }
  return {
    url,
    key: ADMIN_KEY,
    pid: child.pid,
    said: () => text,
    end,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null) await end("SIGTERM");
    },
  };
}

function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
