/**
 * Where images come from: one Debian release, its main component, one mirror that configuration may change; the host's own
 * package sources are never read. Signatures are checked against debian-archive-keyring, on Ubuntu too.
 */
import { dirname } from "node:path";
import { WarrenError } from "../../errors.ts";
import { COMMAND_ENV, run } from "../../host/run.ts";
import { SUITE } from "../recipes.ts";

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
/** A slow link still gets a data stack (300 MB packed) in this time. */
const FETCH_MS = 30 * 60_000;

export type Say = (says: string) => void;

export interface FetchAsk {
  readonly mirror: string;
  readonly variant: "minbase" | "extract";
  readonly packages: readonly string[];
  /** A directory to make, or a file ending in .tar. */
  readonly target: string;
  /** dpkg globs that stay out of the image. */
  readonly without: readonly string[];
}

function argv({ mirror, variant, packages, target, without }: FetchAsk): [string, ...string[]] {
  const excludes = without.map((glob) => `--dpkgopt=path-exclude=${glob}`);
  const line = `deb [signed-by=${KEYRING}] ${mirror} ${SUITE} main`;
  // The image is thrown away when anything fails, so dpkg need not wait for the disk after each file.
  const options = [
    "--mode=root",
    "--dpkgopt=force-unsafe-io",
    `--variant=${variant}`,
    '--aptopt=Acquire::Languages "none"',
    ...excludes,
  ];
  return ["mmdebstrap", ...options, `--include=${packages.join(",")}`, SUITE, target, line];
}

/** What mmdebstrap and apt print → what a person waiting wants to read; null for the rest. */
function shown(line: string): string | null {
  const step = /^I: (running|extracting|installing|downloading|chroot|setting up)(.*)$/.exec(line);
  if (step !== null) return `${step[1]}${step[2]}`.replace(/\.\.\.$/, "");
  const fetched = /^Get:(\d+) \S+ \S+ \S+ (\S+)/.exec(line);
  if (fetched !== null) return `package ${fetched[1]}: ${fetched[2]}`;
  const unpacked = /^(Unpacking|Setting up) (\S+)/.exec(line);
  return unpacked === null ? null : `${unpacked[1]?.toLowerCase()} ${unpacked[2]}`;
}

/** What commands say when a file system is full. */
export function isFull(output: string): boolean {
  return output.includes("No space left on device");
}

/** Downloads packages into a directory or tar. @throws {WarrenError} `storage_exhausted`; `bake_failed` – with the end of its output */
export async function fetchPackages(ask: FetchAsk, say: Say, signal?: AbortSignal): Promise<void> {
  const tail: string[] = [];
  const onLine = (line: string): void => {
    tail.push(line);
    if (tail.length > 12) tail.shift();
    const text = shown(line);
    if (text !== null) say(text);
  };
  // What it unpacks on its way goes beside the target, where a killed bake's half is found and removed; not to /tmp.
  const env = { ...COMMAND_ENV, TMPDIR: dirname(ask.target) };
  const done = await run(argv(ask), { deadlineMs: FETCH_MS, onLine, env, ...(signal === undefined ? {} : { signal }) });
  if (done.exitCode !== 0) {
    if (isFull(tail.join("\n"))) {
      throw new WarrenError(
        "storage_exhausted",
        `the disk filled up while packages were unpacked to ${dirname(ask.target)}`,
      );
    }
    throw new WarrenError(
      "bake_failed",
      `Debian packages could not be installed from ${ask.mirror} (mmdebstrap ${done.exitCode === null ? done.kind : `ended with ${done.exitCode}`}); is the mirror reachable? WARREN_MIRROR sets another.\n${tail.join("\n")}`,
    );
  }
}
