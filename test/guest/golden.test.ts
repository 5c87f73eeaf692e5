/**
 * `golden/frames.json`, held against both halves of the protocol: every frame is encoded and decoded by the host's codec,
 * decoded by the agent's, and those that guests send are also made by the agent's own encoders.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { encodeFrame, FrameDecoder } from "../../src/guest/codec.ts";
import { decodeFields, encodeFields, type Field } from "../../src/guest/fields.ts";
import { ASK, SAY, TAG } from "../../src/guest/protocol.ts";
import { decodeChangeRecords, decodeFileRecords, decodeProcessRecords } from "../../src/guest/records.ts";
import { gate } from "../harness/gates.ts";
import { BUILD_MS, binaries, goldenProgram } from "./process.ts";

type Value = { readonly u64: string } | { readonly text: string } | { readonly hex: string };
interface Golden {
  readonly name: string;
  /** Key of ASK or SAY. */
  readonly ask?: keyof typeof ASK;
  readonly say?: keyof typeof SAY;
  readonly channel: number;
  readonly fields?: readonly (readonly [keyof typeof TAG, Value])[];
  readonly raw?: string;
  readonly hex: string;
}

const golden: readonly Golden[] = await Bun.file(join(import.meta.dir, "../golden/frames.json")).json();

const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));
const hex = (value: Uint8Array): string => Buffer.from(value).toString("hex");
const typeOf = ({ ask, say }: Golden): number => (ask === undefined ? SAY[say ?? "DONE"] : ASK[ask]);

function fieldsOf(frame: Golden): Field[] {
  return (frame.fields ?? []).map(([tag, value]) => {
    if ("u64" in value) return [TAG[tag], BigInt(value.u64)];
    return [TAG[tag], "text" in value ? value.text : bytes(value.hex)];
  });
}

const payloadOf = (frame: Golden): Uint8Array =>
  frame.raw === undefined ? encodeFields(fieldsOf(frame)) : bytes(frame.raw);

describe("Golden frames", () => {
  test("Golden frames cover every type that either side sends", () => {
    expect(new Set(golden.flatMap(({ ask }) => ask ?? []))).toEqual(new Set(Object.keys(ASK) as (keyof typeof ASK)[]));
    expect(new Set(golden.flatMap(({ say }) => say ?? []))).toEqual(new Set(Object.keys(SAY) as (keyof typeof SAY)[]));
    expect(new Set(golden.flatMap(({ fields }) => (fields ?? []).map(([tag]) => tag)))).toEqual(
      new Set(Object.keys(TAG) as (keyof typeof TAG)[]),
    );
  });

  for (const frame of golden) {
    test(`Golden frame ${frame.name} is what the host's codec makes and reads`, () => {
      expect(hex(encodeFrame(typeOf(frame), frame.channel, payloadOf(frame)))).toBe(frame.hex);
      const [read, ...rest] = new FrameDecoder().push(bytes(frame.hex));
      expect(rest).toEqual([]);
      expect({ ...read, payload: hex(read?.payload ?? new Uint8Array(0)) }).toEqual({
        type: typeOf(frame),
        channel: frame.channel,
        payload: hex(payloadOf(frame)),
      });
      if (frame.raw !== undefined) return;
      const fields = decodeFields(read?.payload ?? new Uint8Array(0));
      for (const [tag, value] of fieldsOf(frame)) {
        if (typeof value === "bigint") expect([fields.u64(tag), fields.i64(tag)]).toContain(value);
        else if (typeof value === "string")
          expect(fields.all(tag).map((v) => Buffer.from(v).toString())).toContain(value);
      }
    });
  }

  test("Golden records say what they say", () => {
    const raw = (name: string) => bytes(golden.find((frame) => frame.name === name)?.raw ?? "");
    expect(decodeFileRecords(raw("CHUNK of a file"))).toEqual([
      {
        type: "symlink",
        mode: 0o777,
        uid: 1000,
        gid: 65534,
        sizeBytes: 2,
        mtimeNs: -999_999_995n,
        name: Uint8Array.of(110, 255, 109),
        target: Uint8Array.of(116, 111),
      },
    ]);
    expect(decodeProcessRecords(raw("CHUNK of processes")).map((p) => ({ ...p, command: hex(p.command) }))).toEqual([
      { process: 3, pid: 5, background: false, running: false, exitCode: -1, signal: 9, command: "" },
      { process: 2, pid: 70000, background: true, running: false, exitCode: 3, signal: 0, command: "ff" },
      {
        process: 1,
        pid: 4321,
        background: true,
        running: true,
        exitCode: 0,
        signal: 0,
        command: hex(Buffer.from("sleep 9")),
      },
    ]);
    expect(decodeChangeRecords(raw("CHUNK of changes")).map((c) => ({ ...c, path: hex(c.path) }))).toEqual([
      { kind: "created", directory: true, path: "612f62" },
      { kind: "removed", directory: false, path: "6eff6d" },
      { kind: "attributes", directory: true, path: "" },
      { kind: "overflow", directory: false, path: "" },
    ]);
  });
});

if (gate("gcc")) {
  beforeAll(() => binaries(), BUILD_MS);

  describe("The agent's codec", () => {
    test("The agent's codec makes the golden frames of guests", async () => {
      const said = (await goldenProgram("say", "")).trim().split("\n");
      const frames = new Map(
        said.map((line) => [line.slice(0, line.lastIndexOf(" ")), line.slice(line.lastIndexOf(" ") + 1)]),
      );
      const wanted = (name: string): string => golden.find((frame) => frame.name === name)?.hex ?? "not there";
      const processes = `${wanted("CHUNK of processes")}${wanted("DONE on channel 6")}`;
      for (const [name, made] of frames) {
        // The build's name has a field of its own, and another length in every build.
        if (name === "HELLO") expect(made.slice(24)).toStartWith(wanted("HELLO of a guest").slice(24, 24 + 2 * 34));
        else expect([name, made]).toEqual([name, name === "PROCESSES" ? processes : wanted(name)]);
      }
      expect(frames.size).toBe(12);
    });

    test("The agent's codec reads every golden frame, and refuses what the host's refuses", async () => {
      const broken = [
        "0100010001000000000000000000", // stray bits
        "010001000300000000000000", // length beyond the bound
        "05000000030000000000000010010000", // a field runs past the end
        hex(
          encodeFrame(
            ASK.GET,
            1,
            encodeFields([
              [TAG.PATH, "a"],
              [TAG.PATH, "b"],
            ]),
          ),
        ), // twice
      ];
      const lines = (await goldenProgram("read", [...golden.map((frame) => frame.hex), ...broken].join("\n")))
        .trim()
        .split("\n");
      const expected = golden.map((frame) => {
        const head = `${typeOf(frame)} ${frame.channel}`;
        if (frame.raw !== undefined) return `${head} ${frame.raw}`.trim();
        const values = decodeFields(payloadOf(frame));
        const tags = [...new Set(fieldsOf(frame).map(([tag]) => tag))].sort((a, b) => a - b);
        return [head, ...tags.flatMap((tag) => values.all(tag).map((value) => `${tag}=${hex(value)}`))].join(" ");
      });
      expect(lines.map((line) => line.trim())).toEqual([...expected, ...broken.map(() => "refused")]);
    });
  });
}
