/** Watching files: what is told, in which order, and how it ends. */
import { expect } from "bun:test";
import { isDeepStrictEqual } from "node:util";
import type { WatchEvent } from "../../../src/contract/routes/files.ts";
import { until } from "../../harness/until.ts";
import { fails, type Subject } from "./subject.ts";

/** A watch that is read all the time; events as "kind path". */
class Watched {
  readonly seen: string[] = [];
  readonly over: Promise<void>;

  constructor(events: AsyncIterable<WatchEvent>) {
    this.over = this.#read(events);
    this.over.catch(() => undefined); // awaited by those who wait for it
  }

  async #read(events: AsyncIterable<WatchEvent>): Promise<void> {
    for await (const event of events) {
      this.seen.push("path" in event ? `${event.kind} ${event.path}${event.directory ? "/" : ""}` : event.kind);
    }
  }

  async sees(...wanted: readonly string[]): Promise<void> {
    const missing = () => wanted.filter((each) => !this.seen.includes(each));
    await until(`all of ${wanted.length} changes`, () => missing().length === 0, 60_000).catch(() => {
      throw new Error(`not told: ${missing().slice(0, 5)}; told: ${this.seen.slice(-20)}`);
    });
  }
}

let count = 0;
const fresh = () => `/work/watched-${++count}`;

export function watchTests({ host, shared, does, needs }: Subject): void {
  const watch = async (path: string, recursive: boolean) => {
    const abort = new AbortController();
    const watched = new Watched(await shared().files.watch(path, { recursive, signal: abort.signal }));
    const end = async () => {
      abort.abort();
      await fails("cancelled", watched.over);
    };
    return { watched, end };
  };

  does("watch says that it is ready, then what is made, changed, moved and removed", async () => {
    const dir = fresh();
    await shared().files.mkdir(`${dir}/sub`);
    const { watched, end } = await watch(dir, false);
    await watched.sees("ready");
    await shared().files.write(`${dir}/f`, "one");
    await shared().exec(`echo two > ${dir}/f`);
    await shared().files.chmod(`${dir}/f`, 0o600);
    await shared().files.rename(`${dir}/f`, `${dir}/g`);
    await shared().files.write(`${dir}/sub/unseen`, "");
    await shared().files.mkdir(`${dir}/new`);
    await shared().files.remove(`${dir}/g`);
    await watched.sees(`removed ${dir}/g`);
    const modes = `attributes ${dir}/new/`; // a directory is made, and then given its mode
    const once = watched.seen.filter((event, i, all) => event !== all[i - 1] && event !== modes);
    expect(once).toEqual([
      "ready",
      `created ${dir}/f`,
      `modified ${dir}/f`,
      `attributes ${dir}/f`,
      `removed ${dir}/f`,
      `created ${dir}/g`,
      `created ${dir}/new/`,
      `removed ${dir}/g`,
    ]);
    await end();
  });

  does("watch with recursive has all below, new directories too", async () => {
    const dir = fresh();
    await shared().files.mkdir(`${dir}/old`);
    const { watched, end } = await watch(dir, true);
    await shared().files.write(`${dir}/old/f`, "");
    await shared().files.write(`${dir}/new/deep/er/f`, "");
    await watched.sees(`created ${dir}/old/f`, `created ${dir}/new/`, `created ${dir}/new/deep/er/f`);
    await shared().files.remove(`${dir}/new`, { recursive: true });
    await watched.sees(`removed ${dir}/new/deep/er/f`, `removed ${dir}/new/`);
    await end();
  });

  does("watch of a thousand files tells of each", async () => {
    const dir = fresh();
    await shared().files.mkdir(dir);
    const { watched, end } = await watch(dir, true);
    const names = Array.from({ length: 1000 }, (_, i) => `f${i}`);
    await shared().exec(names.map((name) => `echo x > ${dir}/${name}`).join(";"));
    await watched.sees(...names.map((name) => `created ${dir}/${name}`));
    expect(watched.seen).not.toContain("overflow");
    await end();
  });

  does("watch of a file tells of that file, also when another takes its place", async () => {
    const dir = fresh();
    await shared().files.write(`${dir}/f`, "one");
    const { watched, end } = await watch(`${dir}/f`, false);
    await shared().files.write(`${dir}/other`, "");
    await shared().files.write(`${dir}/f`, "two");
    await watched.sees(`created ${dir}/f`);
    await shared().exec(`echo three > ${dir}/f`);
    await watched.sees(`modified ${dir}/f`);
    expect(watched.seen.join()).not.toContain("other");
    await end();
  });

  does("watch ends when its directory is removed, which is the last it tells", async () => {
    const dir = fresh();
    await shared().files.mkdir(dir);
    const { watched } = await watch(dir, false);
    await shared().files.remove(dir);
    await watched.over;
    expect(watched.seen).toEqual(["ready", `removed ${dir}/`]);
  });

  does("watch of nothing is refused before it begins, and leaving one is no harm", async () => {
    await fails("file_not_found", shared().files.watch("/no/such/place"));
    await fails("invalid_request", shared().files.watch("relative"));
    await fails("not_found", host().watch({ id: "sb_nobody", path: "/work" }));
    for (let i = 0; i < 50; i++) {
      for await (const event of await shared().files.watch("/work", { recursive: true })) {
        expect(event).toEqual({ kind: "ready" });
        break;
      }
    }
  });

  needs(["python", "direct"], "watch that nobody reads says afterwards that more has happened", async () => {
    const dir = fresh();
    await shared().files.mkdir(dir);
    const events = (await shared().files.watch(dir, { recursive: true }))[Symbol.asyncIterator]();
    expect((await events.next()).value).toEqual({ kind: "ready" });
    const churn = [
      "import os, sys",
      "os.chdir(sys.argv[1])",
      "for i in range(12000):",
      "    name = 'long' * 50 + str(i)",
      "    os.close(os.open(name, os.O_CREAT | os.O_WRONLY))",
      "    os.unlink(name)",
      "os.makedirs('late/later')",
    ];
    expect((await shared().python(churn.join("\n"), { args: [dir] })).exitCode).toBe(0);
    const next = async (): Promise<WatchEvent> => (await events.next()).value;
    while ((await next()).kind !== "overflow");
    await shared().files.write(`${dir}/late/later/f`, "");
    const wanted = { kind: "created", path: `${dir}/late/later/f`, directory: false };
    while (!isDeepStrictEqual(await next(), wanted));
    await events.return?.();
    expect((await shared().exec("ls -l /proc/1/fd | grep -c inotify")).stdout).toBe("0\n");
  });
}
