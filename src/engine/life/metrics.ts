/** What one sandbox uses: as its host measures it, and as its guest says of itself, which nobody has to believe. */
import type { SandboxMetrics } from "../../contract/routes/sandboxes.ts";
import { isWarrenError } from "../../errors.ts";
import type { GuestAgent } from "../../guest/agent.ts";
import type { Host } from "../../host/host.ts";
import { LIMITS } from "../../limits.ts";
import type { Live } from "../live.ts";

const MIB = 1024 * 1024;
/** USER_HZ, the unit of /proc/stat, which is 100 on every Linux that guests run. */
const TICK_MS = 10;
const ASKS = "cat /proc/stat /proc/meminfo; df -kP /";
const ANSWER_BYTES = 64 * 1024;

type Guest = Pick<
  SandboxMetrics,
  "guestCpuMs" | "guestMemoryTotalBytes" | "guestMemoryAvailableBytes" | "guestDiskTotalBytes" | "guestDiskFreeBytes"
>;

const UNKNOWN: Guest = {
  guestCpuMs: null,
  guestMemoryTotalBytes: null,
  guestMemoryAvailableBytes: null,
  guestDiskTotalBytes: null,
  guestDiskFreeBytes: null,
};

/** Of a sandbox of this process in any state; asking is no use of it. */
export async function metricsOf(host: Pick<Host, "processMemory">, live: Live): Promise<SandboxMetrics> {
  const { body } = live;
  const memoryMib = body?.lease.memoryMib() ?? null;
  const process = body === null ? null : host.processMemory(body.vmm.pid);
  const network = body?.lease.network?.usage() ?? live.used;
  const guest = body !== null && live.info.state === "running" ? await askGuest(body.agent) : UNKNOWN;
  return {
    hostCpuMs: body?.lease.cpuMs() ?? null,
    hostMemoryBytes: memoryMib === null ? null : Math.round(memoryMib * MIB),
    hostPssBytes: process?.pssBytes ?? null,
    hostRssBytes: process?.rssBytes ?? null,
    ...guest,
    networkBytesOut: network?.bytesOut ?? null,
    networkBytesIn: network?.bytesIn ?? null,
  };
}

/** A guest that does not answer as it should has told nothing. */
async function askGuest(agent: GuestAgent): Promise<Guest> {
  const decoder = new TextDecoder();
  let text = "";
  try {
    const request = { cmd: ASKS, timeoutSeconds: LIMITS.metricsSeconds, outputLimitBytes: ANSWER_BYTES };
    for await (const event of agent.exec(request)) if (event.kind === "stdout") text += decoder.decode(event.bytes);
  } catch (cause) {
    if (isWarrenError(cause)) return UNKNOWN;
    throw cause;
  }
  return parseGuest(text);
}

/** From the texts of `/proc/stat`, `/proc/meminfo` and `df -kP /`, whatever else is in between. */
export function parseGuest(text: string): Guest {
  const kib = (name: string) => bytesOf(new RegExp(`^${name}: +(\\d{1,12}) kB$`, "m").exec(text)?.[1]);
  const cpu = /^cpu +(\d+) (\d+) (\d+) \d+ \d+ (\d+) (\d+)/m.exec(text);
  const ticks = cpu?.slice(1).reduce((sum, each) => sum + Number(each), 0);
  const disk = /^\S+ +(\d{1,15}) +\d{1,15} +(\d{1,15}) +\d+% +\/$/m.exec(text);
  return {
    guestCpuMs: ticks === undefined || !Number.isSafeInteger(ticks) ? null : ticks * TICK_MS,
    guestMemoryTotalBytes: kib("MemTotal"),
    guestMemoryAvailableBytes: kib("MemAvailable"),
    guestDiskTotalBytes: bytesOf(disk?.[1]),
    guestDiskFreeBytes: bytesOf(disk?.[2]),
  };
}

function bytesOf(kib: string | undefined): number | null {
  const bytes = Number(kib) * 1024;
  return kib === undefined || !Number.isSafeInteger(bytes) ? null : bytes;
}
