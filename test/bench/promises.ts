/** What the README promises about speed and size, as data: aim, how it is read from a recorded line, whether it was met. */
import { round, type Summary } from "./stats.ts";

export interface Promised {
  readonly says: string;
  readonly aim: string;
  readonly measured: string;
  /** Null when this run did not measure it. */
  readonly met: boolean | null;
}

interface Aim {
  readonly says: string;
  readonly aim: string;
  readonly value: (line: Line) => number | undefined;
  readonly met: (value: number) => boolean;
  readonly unit: string;
}

type Line = Readonly<Record<string, unknown>>;

function ratio(line: Line, name: string): number | undefined {
  return (line["ratios"] as Record<string, number> | undefined)?.[name];
}

function p50(line: Line, name: string): number | undefined {
  return (line[name] as Summary | undefined)?.p50;
}

const AIMS: readonly Aim[] = [
  {
    says: "create → first verified result, nothing prepared",
    aim: "≤ 1.25 F",
    unit: "F",
    value: (l) => ratio(l, "none"),
    met: (v) => v <= 1.25,
  },
  {
    says: "the same with a prepared VMM process",
    aim: "≤ 0.75 F",
    unit: "F",
    value: (l) => ratio(l, "prepared"),
    met: (v) => v <= 0.75,
  },
  {
    says: "the same with a ready clone",
    aim: "≤ 0.25 F",
    unit: "F",
    value: (l) => ratio(l, "ready"),
    met: (v) => v <= 0.25,
  },
  {
    says: "cold boot to the same result",
    aim: "≥ 25 × create",
    unit: "×",
    value: (l) => ratio(l, "boot"),
    met: (v) => v >= 25,
  },
  {
    says: "first Python cell against cold `python3 -c`, same guest",
    aim: "≤ 0.40",
    unit: "×",
    value: (l) => ratio(l, "cell"),
    met: (v) => v <= 0.4,
  },
  {
    says: "guest memory that an idle clone has of its own",
    aim: "≤ 2 MiB",
    unit: "MiB",
    value: (l) => mib(p50(l, "guestKib")),
    met: (v) => v <= 2,
  },
  {
    says: "VMM memory of an idle clone",
    aim: "recorded",
    unit: "MiB",
    value: (l) => mib(p50(l, "vmmKib")),
    met: () => true,
  },
  {
    says: "batch, per item, against the same by hand",
    aim: "≤ 1.10",
    unit: "×",
    value: (l) => ratio(l, "batch"),
    met: (v) => v <= 1.1,
  },
];

function mib(kib: number | undefined): number | undefined {
  return kib === undefined ? undefined : kib / 1024;
}

/** The promises with this line's figures; the floor itself is compared with the last recorded one of the same machine. */
export function promises(line: Line, floorBefore: number | null): Promised[] {
  const rows = AIMS.map(({ says, aim, unit, value, met }): Promised => {
    const found = value(line);
    if (found === undefined) return { says, aim, measured: "not measured", met: null };
    return { says, aim, measured: `${round(found, 2)} ${unit}`, met: met(found) };
  });
  const floor = p50(line, "floorMs") ?? Number.NaN;
  const growth = floorBefore === null ? null : floor / floorBefore;
  const compared = growth === null ? "" : `, ${round(growth, 2)} × the last recorded`;
  rows.unshift({
    says: "F: bare QEMU restore → first verified result",
    aim: "not over 1.10 × the last recorded",
    measured: `${round(floor)} ms${compared}`,
    met: growth === null ? null : growth <= 1.1,
  });
  return rows;
}

/** As Markdown, for the README and for people. */
export function table(rows: readonly Promised[]): string {
  const body = rows.map(({ says, aim, measured, met }) => {
    const verdict = met === null ? "" : met ? "yes" : "no";
    return `| ${says} | ${aim} | ${measured} | ${verdict} |`;
  });
  return ["| what | aim | measured (p50) | met |", "|---|---|---|---|", ...body].join("\n");
}
