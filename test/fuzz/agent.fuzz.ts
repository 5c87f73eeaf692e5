/**
 * The guest agent, as a process under AddressSanitizer and UBSan, under random and nearly right frames from its host's side.
 * It sits in an empty root, in namespaces of its own. Run by hand for long:
 * `bun test/fuzz/agent.fuzz.ts --runs 200000 --seed 1 [--record]`; a short run is part of the tests.
 *
 * Holds: it lives on; all it says decodes; whatever came before, padding and a greeting bring it back; its memory is bounded.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeFrame, type Frame, FrameDecoder } from "../../src/guest/codec.ts";
import { decodeFields, encodeFields, type Field } from "../../src/guest/fields.ts";
import { ASK, EXEC_FLAG, HEADER_BYTES, RESYNC_BYTES, SAY, TAG } from "../../src/guest/protocol.ts";
import { type AgentProcess, binaries, compile, startAgent } from "../guest/process.ts";
import { campaign } from "./campaign.ts";
import { Random } from "./random.ts";

const TYPES = Object.values(ASK);
const TAGS = Object.values(TAG);
const PATHS = ["/", "/a", "/a/b", "/a/b/c", "/talk", "/l", "..", "", "/a/../a", "/dev", "/a\0b", `/${"x".repeat(300)}`];
const WORDS = ["out", "both", "cat", "die", "stay", "fork", "0", "3", "15", "100", "70000", "400000"];
/** Frames between two greetings, which are the points where all must be well again. */
const FRAMES_PER_ROUND = 100;
const ANSWER_MS = 20_000;
/** Under AddressSanitizer, which keeps what has been freed for a while. */
const MEMORY_KIB_MAX = 600_000;

export interface AgentReport {
  runs: number;
  frames: number;
  answers: number;
  exits: number;
  errors: number;
  /** Commands that have begun in one, and watches. */
  terminals: number;
  watches: number;
}

function field(random: Random): Field {
  const tag = random.once(8) ? random.pick(TAGS) : random.pick([TAG.PATH, TAG.PATH2, TAG.ARG, TAG.FLAGS, TAG.PROCESS]);
  switch (tag) {
    case TAG.PATH:
    case TAG.PATH2:
    case TAG.CWD:
      return [tag, random.pick(PATHS)];
    case TAG.ARG:
      return [tag, random.pick(WORDS)];
    case TAG.CODE:
      return [tag, random.bytes(random.below(200))];
    default:
      return [
        tag,
        random.once(10) ? random.bytes(random.below(12)) : BigInt(random.pick([0, 1, 2, 3, 7, 9, 511, random.next()])),
      ];
  }
}

/** A command that really runs; without it most of the agent would never be reached. */
function command(random: Random): Uint8Array {
  const flags = random.pick([0, 0, EXEC_FLAG.STDIN_OPEN, EXEC_FLAG.BACKGROUND, EXEC_FLAG.PYTHON, 6]);
  const fields: Field[] = [
    [TAG.ARG, "/talk"],
    [TAG.ARG, random.pick(WORDS)],
    [TAG.ARG, random.pick(WORDS)],
    [TAG.TIMEOUT_MS, random.pick([1, 20, 500])],
    [TAG.FLAGS, flags],
  ];
  if (random.once(3)) {
    fields.push([TAG.ROWS, random.pick([1, 24, 24, 24, 65_535, 70_000])]);
    if (!random.once(20)) fields.push([TAG.COLS, random.pick([1, 80])]);
  }
  if (random.once(2)) fields.push([TAG.OUTPUT_LIMIT, random.pick([0, 1, 1000, 65_536])]);
  return encodeFields(fields);
}

/** One request; its payload may be broken, its frame is whole. */
function frame(random: Random): Uint8Array {
  const whole = request(random);
  if (!random.once(6)) return whole;
  const payload = random.mutate(whole.subarray(HEADER_BYTES));
  return encodeFrame(whole[4] ?? 0, new DataView(whole.buffer).getUint32(8, true), payload);
}

/** Something to watch, or something that is told of it. */
function watching(random: Random, channel: number): Uint8Array {
  const path = random.pick(["/", "/a", "/a", "/a/b", "/a/b/c", "/tmp", "/talk", "/l"]);
  const fields: Field[] = [[TAG.PATH, path]];
  const type = random.pick([ASK.WATCH, ASK.WATCH, ASK.MKDIR, ASK.RENAME, ASK.REMOVE, ASK.PUT]);
  if (type === ASK.WATCH) fields.push([TAG.FLAGS, random.below(2)]);
  if (type === ASK.PUT) fields.push([TAG.CODE, random.bytes(3)]);
  if (type === ASK.RENAME) fields.push([TAG.PATH2, random.pick(["/a/x", "/tmp/y", "/a/b/c/d", "/a"])]);
  return encodeFrame(type, channel, encodeFields(fields));
}

function request(random: Random): Uint8Array {
  const channel = 1 + random.below(12);
  // Without one in between, what is held while frozen would hardly ever be let go of but by a greeting.
  if (random.once(30)) return encodeFrame(random.pick([ASK.FREEZE, ASK.THAW, ASK.THAW]), channel);
  switch (random.below(9)) {
    case 8:
      return watching(random, channel);
    case 0:
    case 1:
      return encodeFrame(ASK.EXEC, channel, command(random));
    case 2:
      return encodeFrame(ASK.CREDIT, channel, encodeFields([[TAG.BYTES, random.pick([0, 1, 65_536, random.next()])]]));
    case 3:
      return encodeFrame(ASK.DATA, channel, random.bytes(random.pick([0, 0, 3, 300])));
    default: {
      const type = random.once(20) ? random.below(256) : random.pick(TYPES);
      if (type === ASK.HELLO && !random.once(10)) return encodeFrame(ASK.PING, channel); // it would end all channels
      return encodeFrame(type, channel, encodeFields(Array.from({ length: random.below(5) }, () => field(random))));
    }
  }
}

/** Terminals of its own; gone with its mounts. */
const TERMINALS =
  'mount -t devpts -o newinstance,ptmxmode=666 devpts "$0/dev/pts"; ln -s pts/ptmx "$0/dev/ptmx"; exec "$@"';

/** Above the channels that are fuzzed. */
const MARKER = 99;

/** What a reader of the agent's stream sees; throws when any of it does not decode. */
class Listener {
  readonly #decoder = new FrameDecoder();
  readonly #report: AgentReport;
  #greeted: PromiseWithResolvers<void> = Promise.withResolvers();
  #marked: PromiseWithResolvers<void> = Promise.withResolvers();
  #channel = 0;

  constructor(report: AgentReport) {
    this.#report = report;
  }

  /** The next greeting's channel; resolves when it has been answered. */
  expect(channel: number): Promise<void> {
    this.#channel = channel;
    this.#greeted = Promise.withResolvers();
    return this.#greeted.promise;
  }

  /** Resolves when the command on the marker's channel has ended. */
  expectMarker(): Promise<void> {
    this.#marked = Promise.withResolvers();
    return this.#marked.promise;
  }

  async listen(agent: AgentProcess): Promise<void> {
    for await (const chunk of agent.link.bytes) {
      // No finder: a greeting that restarts the port drops whole frames only, so this stream stays one of frames.
      for (const each of this.#decoder.push(chunk)) this.#hear(each);
    }
    this.#greeted.reject(new Error("the agent hung up"));
  }

  #hear({ type, channel, payload }: Frame): void {
    this.#report.answers++;
    const raw = type === SAY.OUT || type === SAY.ERR || type === SAY.CHUNK || type === SAY.PONG;
    const fields = raw ? null : decodeFields(payload);
    if (type === SAY.STARTED && fields?.has(TAG.FLAGS) === true) this.#report.terminals++;
    if (type === SAY.STARTED && fields?.has(TAG.PROCESS) === false) this.#report.watches++;
    if (type === SAY.EXIT) this.#report.exits++;
    if (type === SAY.ERROR) this.#report.errors++;
    if (channel === MARKER && (type === SAY.EXIT || type === SAY.ERROR)) this.#marked.resolve();
    if (type === SAY.HELLO && channel === this.#channel) this.#greeted.resolve();
  }
}

function memoryKib(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
}

/** The agent is the last of the chain unshare → dial, which has become it. */
function agentPid(agent: AgentProcess): number {
  const child = readFileSync(`/proc/${agent.pid}/task/${agent.pid}/children`, "utf8").trim();
  return child === "" ? agent.pid : Number(child.split(" ")[0]);
}

async function answered(greeting: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ANSWER_MS} ms`)), ANSWER_MS);
  });
  await Promise.race([greeting, late]).finally(() => clearTimeout(timer));
}

async function talkIn(root: string): Promise<void> {
  await compile(["-static", join(import.meta.dir, "talk.c"), "-o", join(root, "talk")]);
  for (const dir of ["dev/pts", "a", "tmp", "work"]) mkdirSync(join(root, dir), { mode: 0o777, recursive: true });
}

async function rounds(agent: AgentProcess, random: Random, report: AgentReport, tick: () => void): Promise<void> {
  const listener = new Listener(report);
  const listening = listener.listen(agent);
  listening.catch(() => undefined); // awaited below; until then a failure must not end the process
  for (let sent = 0; sent < report.runs; sent += FRAMES_PER_ROUND) {
    let whole = true;
    for (let i = 0; i < FRAMES_PER_ROUND; i++) {
      const bytes = frame(random);
      // A broken frame makes the agent lose its place: what follows in this round is then skipped.
      const breaks = random.once(150);
      whole &&= !breaks;
      await agent.link.write(breaks ? random.mutate(bytes) : bytes);
      report.frames++;
      tick();
    }
    if (whole) {
      // Gives the commands of this round the time that one takes; the greeting will end those that are left.
      const marker = listener.expectMarker();
      await agent.link.write(encodeFrame(ASK.EXEC, MARKER, encodeFields([[TAG.ARG, "/talk"]])));
      await answered(Promise.race([marker, listening.then(() => marker)]));
    }
    const channel = 0x8000_0000 + sent;
    const greeting = listener.expect(channel);
    await agent.link.write(new Uint8Array(RESYNC_BYTES));
    await agent.link.write(encodeFrame(ASK.HELLO, channel, encodeFields([[TAG.VERSION, 1]])));
    await answered(Promise.race([greeting, listening.then(() => greeting)]));
    const kib = memoryKib(agentPid(agent));
    if (kib > MEMORY_KIB_MAX) throw new Error(`the agent has grown to ${kib} KiB`);
  }
}

/** @throws {Error} what does not hold, with what the sanitizers said. */
export async function fuzzAgent(runs: number, seed: number, tick: () => void = () => undefined): Promise<AgentReport> {
  const report: AgentReport = { runs, frames: 0, answers: 0, exits: 0, errors: 0, terminals: 0, watches: 0 };
  await binaries();
  const root = mkdtempSync(join(tmpdir(), "warren-fuzz-"));
  await talkIn(root);
  const apart = [
    "unshare",
    "--mount",
    "--pid",
    "--net",
    "--ipc",
    "--fork",
    "--kill-child",
    "sh",
    "-ec",
    TERMINALS,
    root,
  ];
  const agent = await startAgent(["--root", root], apart, "detect_leaks=0");
  try {
    await rounds(agent, new Random(seed), report, tick);
    await agent.end();
    const said = await agent.stderr;
    if ((await agent.exited) !== 0 || /Sanitizer|runtime error/.test(said)) throw new Error("it ended badly");
    return report;
  } catch (error) {
    await agent.end();
    throw new Error(`seed ${seed} after ${report.frames} frames: ${String(error)}\n${await agent.stderr}`, {
      cause: error,
    });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  await campaign({
    name: "agent under sanitizers",
    file: "agent.fuzz.ts",
    blockRuns: 20_000,
    block: async (runs, seed, tick) => {
      const { answers, exits, errors, terminals, watches } = await fuzzAgent(runs, seed, tick);
      return { answers, exits, errors, terminals, watches };
    },
  });
}
