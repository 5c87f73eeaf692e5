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

function figure(line: Line, name: string): number | undefined {
  return line[name] as number | undefined;
}

function memory(line: Line, name: string): number | undefined {
  return (line["memory"] as Record<string, number> | undefined)?.[name];
}

const FORK_AIMS: readonly Aim[] = [
  {
    says: "fork → first command of the child, against a create with nothing prepared",
    aim: "≤ 1.5 ×",
    unit: "×",
    value: (l) => ratio(l, "exec"),
    met: (v) => v <= 1.5,
  },
  {
    says: "the same, first result of the warm interpreter",
    aim: "≤ 1.5 ×",
    unit: "×",
    value: (l) => ratio(l, "python"),
    met: (v) => v <= 1.5,
  },
  {
    says: "pause of a parent of 1 GiB against one of 256 MiB, 64 MiB changed in both",
    aim: "≤ 1.3 ×",
    unit: "×",
    value: (l) => figure(l, "pauseRatio"),
    met: (v) => v <= 1.3,
  },
  {
    says: "pause for each MiB that was changed",
    aim: "recorded",
    unit: "ms",
    value: (l) => p50(l, "pausePerMibMs"),
    met: () => true,
  },
  {
    says: "pause of a parent of 1 GiB that did nothing since its last fork",
    aim: "recorded",
    unit: "ms",
    value: (l) => p50(l, "pauseLargeIdleMs"),
    met: () => true,
  },
  {
    says: "guest memory of ten forks of a Python that holds 500 MiB, in all",
    aim: "≤ 5 MiB",
    unit: "MiB",
    value: (l) => memory(l, "guestMib"),
    met: (v) => v <= 5,
  },
  {
    says: "VMM and page tables of one of them, against a bare clone",
    aim: "≤ 1.10 ×",
    unit: "×",
    value: (l) => memory(l, "ratio"),
    met: (v) => v <= 1.1,
  },
];

/** The promises about forks with this line's figures. */
export function forkPromises(line: Line): Promised[] {
  return FORK_AIMS.map((aim) => measured(aim, line));
}

function measured({ says, aim, unit, value, met }: Aim, line: Line): Promised {
  const found = value(line);
  if (found === undefined) return { says, aim, measured: "not measured", met: null };
  return { says, aim, measured: `${round(found, 2)} ${unit}`, met: met(found) };
}

/** The promises with this line's figures; the floor itself is compared with the last recorded one of the same machine. */
export function promises(line: Line, floorBefore: number | null): Promised[] {
  const rows = AIMS.map((aim) => measured(aim, line));
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
