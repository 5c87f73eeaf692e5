/**
 * A PostgreSQL of the tests' own, from Debian's package: a new data folder, a loopback port, stopped by its pid and removed.
 * It refuses to run as root, so as root it runs as the package's user.
 */
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { nonce } from "../../../src/base/id.ts";

const PACKAGED = "/usr/lib/postgresql";
const isRoot = process.getuid?.() === 0;

/** The newest version's folder of programs; null: it is not installed. */
function binaries(): string | null {
  if (!existsSync(PACKAGED)) return null;
  const versions = readdirSync(PACKAGED).sort((a, b) => Number(b) - Number(a));
  return (
    versions.map((version) => join(PACKAGED, version, "bin")).find((bin) => existsSync(join(bin, "initdb"))) ?? null
  );
}

/** The package's user, as numbers. */
function owner(): { readonly uid: number; readonly gid: number } | null {
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((entry) => entry.startsWith("postgres:"));
  const [, , uid, gid] = line?.split(":") ?? [];
  return uid === undefined || gid === undefined ? null : { uid: Number(uid), gid: Number(gid) };
}

function asOwner(command: readonly string[]): string[] {
  const user = owner();
  if (!isRoot || user === null) return [...command];
  const { uid, gid } = user;
  // SIGINT is its quick shutdown: it goes when this process does, however that ends.
  return ["setpriv", `--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", "--pdeathsig=INT", "--", ...command];
}

function freePort(): number {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
  const { port } = server;
  server.stop(true);
  return port;
}

export class PrivatePostgres implements AsyncDisposable {
  readonly #bin: string;
  readonly #folder: string;
  readonly #port: number;
  readonly #settings: readonly string[];
  #server: Bun.Subprocess | null = null;

  private constructor(bin: string, settings: readonly string[]) {
    this.#bin = bin;
    this.#settings = settings;
    this.#folder = mkdtempSync(join(tmpdir(), "warren-postgres-"));
    this.#port = freePort();
    const user = owner();
    if (isRoot && user !== null) chownSync(this.#folder, user.uid, user.gid);
  }

  /** Behind the gate `postgres`. Without `durable` it does not wait for the disk; `settings` as `shared_buffers=1GB`. */
  static async open({
    durable = false,
    settings = [],
  }: {
    readonly durable?: boolean;
    readonly settings?: readonly string[];
  } = {}): Promise<PrivatePostgres> {
    const bin = binaries();
    if (bin === null) throw new Error(`there is no ${PACKAGED}/*/bin/initdb (Debian's package postgresql)`);
    const server = new PrivatePostgres(bin, [...(durable ? [] : ["fsync=off", "synchronous_commit=off"]), ...settings]);
    try {
      const command = [
        join(bin, "initdb"),
        "-D",
        join(server.#folder, "data"),
        "-U",
        "warren",
        "-A",
        "trust",
        "--no-sync",
      ];
      const init = Bun.spawn(asOwner([...command, "-E", "UTF8", "--locale=C"]), {
        cwd: "/",
        stdout: "ignore",
        stderr: "pipe",
      });
      if ((await init.exited) !== 0) throw new Error(`initdb: ${await new Response(init.stderr).text()}`);
      await server.start();
    } catch (cause) {
      await server[Symbol.asyncDispose]();
      throw cause;
    }
    return server;
  }

  /** Of one of its databases; its user may do anything. */
  url(database = "postgres"): string {
    return `postgres://warren@127.0.0.1:${this.#port}/${database}`;
  }

  /** URL of a new, empty database. */
  async database(): Promise<string> {
    const name = `t_${nonce()}`;
    await this.run(`create database ${name}`);
    return this.url(name);
  }

  /** Rows of a statement, on a connection of its own. */
  async run(text: string, url = this.url()): Promise<Record<string, unknown>[]> {
    const sql = postgres(url, { max: 1, connect_timeout: 5, fetch_types: false, onnotice: () => undefined });
    try {
      return [...(await sql.unsafe(text))];
    } finally {
      await sql.end({ timeout: 1 });
    }
  }

  async start(): Promise<void> {
    const settings = [
      ...["listen_addresses=127.0.0.1", `port=${this.#port}`, `unix_socket_directories=${this.#folder}`],
      ...["max_connections=60", "shared_buffers=32MB", "log_min_messages=fatal", ...this.#settings],
    ].flatMap((setting) => ["-c", setting]);
    const command = [join(this.#bin, "postgres"), "-D", join(this.#folder, "data"), ...settings];
    this.#server = Bun.spawn(asOwner(command), { cwd: "/", stdout: "ignore", stderr: "ignore" });
    let ended = false;
    void this.#server.exited.then(() => {
      ended = true;
    });
    for (;;) {
      const ready = Bun.spawn([join(this.#bin, "pg_isready"), "-q", "-h", "127.0.0.1", "-p", String(this.#port)], {
        cwd: "/",
      });
      if ((await ready.exited) === 0) return;
      if (ended) throw new Error("PostgreSQL ended as it started");
    }
  }

  /** Ends it and all its connections at once, as a crash of its host would seem to a client. */
  async stop(): Promise<void> {
    this.#server?.kill("SIGINT");
    await this.#server?.exited;
    this.#server = null;
  }

  /** Ends it without a word or a checkpoint: what was committed is found again in its log at the next start. */
  async crash(): Promise<void> {
    this.#server?.kill("SIGQUIT");
    await this.#server?.exited;
    this.#server = null;
  }

  /** Stands still, with its connections open, until it goes on. */
  async freeze(): Promise<() => void> {
    const pids = await this.#processes();
    for (const pid of pids) process.kill(pid, "SIGSTOP");
    return () => {
      for (const pid of pids) process.kill(pid, "SIGCONT");
    };
  }

  /** The server's own process and those of its connections. */
  async #processes(): Promise<number[]> {
    const main = this.#server?.pid;
    if (main === undefined) return [];
    const children = readFileSync(`/proc/${main}/task/${main}/children`, "utf8").trim().split(" ").map(Number);
    return [main, ...children.filter((pid) => pid > 0)];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
