/** Watching directories under the real agent, as a process of this machine under AddressSanitizer. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { WatchEvent } from "../../../src/contract/routes/files.ts";
import { isWarrenError } from "../../../src/errors.ts";
import type { GuestAgent } from "../../../src/guest/agent.ts";
import { gate } from "../../harness/gates.ts";
import { until } from "../../harness/until.ts";
import { BUILD_MS, binaries, type ConnectedAgent, connectAgent } from "../process.ts";

/** A watch that is read all the time; events as "kind path" below the directory, directories with a slash. */
class Watched {
  readonly seen: string[] = [];
  readonly events: WatchEvent[] = [];
  readonly ended: Promise<string>;
  readonly #ready = Promise.withResolvers<void>();
  readonly #abort = new AbortController();
  readonly #root: string;

  constructor(agent: GuestAgent, path: string, recursive: boolean) {
    this.#root = path;
    this.ended = this.#read(agent.watch({ path, recursive }, this.#abort.signal));
  }

  static async of(agent: GuestAgent, path: string, recursive = false): Promise<Watched> {
    const watched = new Watched(agent, path, recursive);
    await Promise.race([watched.#ready.promise, watched.ended]);
    return watched;
  }

  async #read(events: AsyncIterable<WatchEvent>): Promise<string> {
    try {
      for await (const event of events) {
        this.events.push(event);
        if (event.kind === "ready") this.#ready.resolve();
        else if (event.kind === "overflow") this.seen.push("overflow");
        else this.seen.push(`${event.kind} ${event.path.slice(this.#root.length + 1)}${event.directory ? "/" : ""}`);
      }
      return "over";
    } catch (cause) {
      return isWarrenError(cause) ? `${cause.code}: ${cause.message}` : String(cause);
    }
  }

  /** Everything up to this event, which is forgotten with it. */
  async until(last: string): Promise<string[]> {
    await until(`${last} in ${this.seen.slice(-20).join(", ")}`, () => this.seen.includes(last), 10_000);
    return this.seen.splice(0, this.seen.lastIndexOf(last) + 1);
  }

  async end(): Promise<void> {
    this.#abort.abort();
    expect(await this.ended).toStartWith("cancelled");
  }
}

const descriptors = ({ process }: ConnectedAgent): number => readdirSync(`/proc/${process.pid}/fd`).length;

/** Plays back what has been told: a directory's removal takes all below with it. */
function play(there: Set<string>, events: readonly string[]): void {
  for (const event of events) {
    const [kind, path = ""] = event.split(" ");
    if (kind === "created") there.add(path);
    if (kind !== "removed") continue;
    const gone = [...there].filter((other) => other === path || (path.endsWith("/") && other.startsWith(path)));
    for (const other of gone) there.delete(other);
  }
}

/** Watches in the kernel that the agent holds. */
function kernelWatches({ process }: ConnectedAgent): number {
  const infos = readdirSync(`/proc/${process.pid}/fdinfo`).map((fd) => {
    try {
      return readFileSync(`/proc/${process.pid}/fdinfo/${fd}`, "utf8");
    } catch {
      return ""; // the one that listed them
    }
  });
  return infos.join("\n").split("inotify wd:").length - 1;
}

if (gate("gcc", "root")) {
  beforeAll(() => binaries(), BUILD_MS);
  const home = mkdtempSync(join(tmpdir(), "warren-watch-"));
  afterAll(() => rmSync(home, { recursive: true, force: true }), 60_000);
  let count = 0;
  const fresh = (): string => {
    const dir = join(home, `d${count++}`);
    mkdirSync(dir);
    return dir;
  };

  describe("A watch", () => {
    test("A watch tells what is made, changed, moved and removed in a directory, and nothing below", async () => {
      await using it = await connectAgent();
      const dir = fresh();
      mkdirSync(join(dir, "old"));
      const watched = await Watched.of(it.agent, dir);
      expect(watched.events).toEqual([{ kind: "ready" }]);
      writeFileSync(join(dir, "f"), "x");
      expect(new Set(await watched.until("modified f"))).toEqual(new Set(["created f", "modified f"]));
      await it.agent.ping(); // emptying it and writing to it may have been two
      watched.seen.length = 0;
      chmodSync(join(dir, "f"), 0o600);
      expect(await watched.until("attributes f")).toEqual(["attributes f"]);
      writeFileSync(join(dir, "old", "deep"), "x");
      renameSync(join(dir, "f"), join(dir, "g"));
      expect(await watched.until("created g")).toEqual(["removed f", "created g"]);
      mkdirSync(join(dir, "new"));
      writeFileSync(join(dir, "new", "deep"), "x");
      symlinkSync("/", join(dir, "link"));
      rmSync(join(dir, "g"));
      expect(await watched.until("removed g")).toEqual(["created new/", "created link", "removed g"]);
      expect(watched.events.at(-1)).toEqual({ kind: "removed", path: join(dir, "g"), directory: false });
      await watched.end();
    });

    test("A watch tells of writes that follow each other once, and of the agent's own files when they are whole", async () => {
      await using it = await connectAgent();
      const dir = fresh();
      const watched = await Watched.of(it.agent, dir);
      await it.agent.writeFile({ path: join(dir, "whole"), body: "x" });
      expect(await watched.until("created whole")).toEqual(["created whole"]);
      await it.agent.writeFile({ path: join(dir, "whole"), body: "y" });
      expect(await watched.until("created whole")).toEqual(["created whole"]);
      for (let i = 0; i < 500; i++) appendFileSync(join(dir, "whole"), "x");
      writeFileSync(join(dir, "end"), "");
      const said = await watched.until("created end");
      expect(said.filter((event) => event === "modified whole").length).toBeGreaterThan(0);
      expect(said.length).toBeLessThan(400);
      await watched.end();
    });

    test("A recursive watch tells what comes into new directories, once, however fast it comes", async () => {
      await using it = await connectAgent();
      const dir = fresh();
      mkdirSync(join(dir, "old/older"), { recursive: true });
      const watched = await Watched.of(it.agent, dir, true);
      writeFileSync(join(dir, "old/older/f"), "");
      expect(await watched.until("created old/older/f")).toEqual(["created old/older/f"]);
      const made: string[] = [];
      for (let i = 0; i < 50; i++) {
        mkdirSync(join(dir, `t${i}/a/b`), { recursive: true });
        for (let k = 0; k < 4; k++) writeFileSync(join(dir, `t${i}/a/b/f${k}`), "");
        made.push(`t${i}/`, `t${i}/a/`, `t${i}/a/b/`, ...[0, 1, 2, 3].map((k) => `t${i}/a/b/f${k}`));
      }
      writeFileSync(join(dir, "end"), "");
      await watched.until("created end").then(async (said) => {
        // The last directories are looked through after the last event of the first one.
        await until("all of it", () => said.push(...watched.seen.splice(0)) >= made.length);
        expect(said.filter((event) => event.startsWith("created ") && event !== "created end").sort()).toEqual(
          made.map((path) => `created ${path}`).sort(),
        );
      });
      rmSync(join(dir, "t0"), { recursive: true });
      expect(await watched.until("removed t0/")).toEqual(
        expect.arrayContaining(["removed t0/a/b/f3", "removed t0/a/"]),
      );
      await watched.end();
    });

    test("A recursive watch follows directories that are moved within, in and out", async () => {
      await using it = await connectAgent();
      const [dir, out] = [fresh(), fresh()];
      mkdirSync(join(dir, "a/x"), { recursive: true });
      mkdirSync(join(dir, "b"));
      const watched = await Watched.of(it.agent, dir, true);
      renameSync(join(dir, "a"), join(dir, "b/c"));
      expect(await watched.until("created b/c/x/")).toEqual(["removed a/", "created b/c/", "created b/c/x/"]);
      writeFileSync(join(dir, "b/c/x/f"), "");
      expect(await watched.until("created b/c/x/f")).toEqual(["created b/c/x/f"]);
      renameSync(join(dir, "b/c"), join(out, "c"));
      expect((await watched.until("removed b/c/")).filter((event) => event !== "modified b/c/x/f")).toEqual([
        "removed b/c/",
      ]);
      writeFileSync(join(out, "c/x/unseen"), "");
      renameSync(join(out, "c"), join(dir, "back"));
      await until("all that came back is told", () => watched.seen.length === 4);
      expect(watched.seen.sort()).toEqual([
        "created back/",
        "created back/x/",
        "created back/x/f",
        "created back/x/unseen",
      ]);
      await watched.end();
    });

    test("A watched file is told of by itself, also when another takes its place", async () => {
      await using it = await connectAgent();
      const dir = fresh();
      const file = join(dir, "config");
      writeFileSync(file, "1");
      const watched = await Watched.of(it.agent, file);
      writeFileSync(join(dir, "other"), "x");
      appendFileSync(file, "2");
      expect(await watched.until("modified ")).toEqual(["modified "]);
      expect(watched.events.at(-1)).toEqual({ kind: "modified", path: file, directory: false });
      await it.agent.writeFile({ path: file, body: "3" });
      expect(await watched.until("created ")).toEqual(["created "]);
      rmSync(file);
      expect(await watched.until("removed ")).toEqual(["removed "]);
      writeFileSync(file, "4");
      await watched.until("modified ");
      rmSync(dir, { recursive: true });
      expect(await watched.ended).toBe("over");
      expect(watched.seen.filter((event) => event !== "modified ")).toEqual(["removed "]);
    });

    test("A watch ends when its directory is removed or moved away, even while a program is in it", async () => {
      await using it = await connectAgent();
      const ends: ((dir: string) => void)[] = [
        (dir) => rmSync(dir, { recursive: true }),
        (dir) => renameSync(dir, `${dir}.moved`),
      ];
      for (const recursive of [false, true]) {
        for (const end of ends) {
          const dir = fresh();
          const inside = Bun.spawn(["sleep", "1000"], { cwd: dir });
          const watched = await Watched.of(it.agent, `${dir}/`, recursive);
          end(dir);
          expect(await watched.ended).toBe("over");
          expect(watched.events.at(-1)).toEqual({ kind: "removed", path: `${dir}/`, directory: true });
          inside.kill();
          await inside.exited;
        }
      }
    });

    test("A watch tells names that are no text by their bytes", async () => {
      await using it = await connectAgent();
      const dir = fresh();
      const watched = await Watched.of(it.agent, dir);
      const odd = Buffer.concat([Buffer.from(`${dir}/n`), Buffer.from([0xff]), Buffer.from("m")]);
      writeFileSync(odd, "");
      await until("it is told", () => watched.events.length > 1);
      expect(watched.events[1]).toEqual({
        kind: "created",
        path: `${dir}/n\uFFFDm`,
        pathBase64: odd.toString("base64"),
        directory: false,
      });
      await watched.end();
    });

    test("A watch of nothing, or of what no file can be, is refused", async () => {
      await using it = await connectAgent();
      const dir = fresh();
      writeFileSync(join(dir, "f"), "");
      expect(await (await Watched.of(it.agent, join(dir, "none"))).ended).toStartWith("file_not_found");
      expect(await (await Watched.of(it.agent, join(dir, "f", "below"))).ended).toStartWith("file_not_found");
      symlinkSync(join(dir, "none"), join(dir, "link"));
      const watched = await Watched.of(it.agent, join(dir, "link"), true); // itself, and not where it leads
      rmSync(join(dir, "link"));
      expect(await watched.until("removed ")).toEqual(["removed "]);
      await watched.end();
    });

    test("A watch has its limits, which it names, and leaves nothing behind", async () => {
      await using it = await connectAgent();
      const before = descriptors(it);
      const dir = fresh();
      for (let i = 0; i < 64; i++) for (let k = 0; k < 64; k++) mkdirSync(join(dir, `${i}/${k}`), { recursive: true });
      expect(await (await Watched.of(it.agent, dir, true)).ended).toMatch(
        /^file_error: .*more than 4096 directories to watch at once$/,
      );
      rmSync(join(dir, "0"), { recursive: true });
      const watched = await Watched.of(it.agent, dir, true);
      expect(kernelWatches(it)).toBeGreaterThan(4000);
      mkdirSync(join(dir, "0"));
      for (let k = 0; k < 64; k++) mkdirSync(join(dir, `0/${k}`));
      expect(await watched.ended).toContain("more than 4096 directories");
      const many = await Promise.all(Array.from({ length: 32 }, () => Watched.of(it.agent, join(dir, "1"))));
      expect(await (await Watched.of(it.agent, dir)).ended).toMatch(/^file_error: .*more than 32 watches at once$/);
      await Promise.all(many.map((each) => each.end()));
      await until("as many descriptors as before", () => descriptors(it) === before);
      expect(kernelWatches(it)).toBe(0);
    }, 30_000);

    test("A watch that is read too slowly says that more has happened, and is right again afterwards", async () => {
      await using it = await connectAgent();
      const dir = fresh();
      const events = it.agent.watch({ path: dir, recursive: true });
      expect((await events.next()).value).toEqual({ kind: "ready" });
      const memory = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${it.process.pid}/status`, "utf8"))?.[1]);
      const settled = memory();
      const names = Array.from({ length: 200 }, (_, i) => join(dir, `${"long".repeat(50)}${i}`));
      for (let round = 0; round < 150; round++) {
        for (const name of names) writeFileSync(name, "");
        for (const name of names) rmSync(name);
      }
      mkdirSync(join(dir, "late/later"), { recursive: true });
      expect(memory() - settled).toBeLessThan(40_000);
      const next = async (): Promise<WatchEvent> => {
        const { value, done } = await events.next();
        if (done === true) throw new Error("it is over");
        return value;
      };
      while ((await next()).kind !== "overflow");
      // Made while nobody could be told, and watched all the same.
      writeFileSync(join(dir, "late/later/f"), "");
      const wanted = { kind: "created", path: join(dir, "late/later/f"), directory: false };
      while (!Bun.deepEquals(await next(), wanted));
      await events.return(undefined);
    }, 60_000);

    test("A watch ends with its connection", async () => {
      const it = await connectAgent();
      const watched = await Watched.of(it.agent, fresh());
      await it[Symbol.asyncDispose]();
      expect(await watched.ended).toStartWith("sandbox_lost");
    });

    test("A recursive watch keeps up with a tree that is made, moved and removed all the time", async () => {
      await using it = await connectAgent();
      const dir = fresh();
      const watched = await Watched.of(it.agent, dir, true);
      const there = new Set<string>();
      for (let i = 0; i < 400; i++) {
        const [a, b, c] = [`p${i % 7}`, `q${(i * 5) % 11}`, `r${i % 3}`];
        mkdirSync(join(dir, a, b, c), { recursive: true });
        writeFileSync(join(dir, a, b, c, `f${i}`), "");
        if (i % 4 === 0) renameSync(join(dir, a, b), join(dir, `moved${i}`));
        if (i % 9 === 0) rmSync(join(dir, a), { recursive: true });
        if (i % 10 === 0) await it.agent.ping();
      }
      writeFileSync(join(dir, "end"), "");
      play(there, await watched.until("created end"));
      const real = readdirSync(dir, { recursive: true, withFileTypes: true }).map((entry) => {
        const path = join(entry.parentPath, entry.name).slice(dir.length + 1);
        return entry.isDirectory() ? `${path}/` : path;
      });
      await until("what it has told is what is there", () => {
        play(there, watched.seen.splice(0));
        return [...there].sort().join() === real.sort().join();
      });
      await watched.end();
    });
  });
}
