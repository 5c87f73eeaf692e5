/** The rate of the host's time stamp counter: under software emulation the guest's clock counts it. */
import { callOurs, memory } from "../../ffi/native.ts";
import type { Clock } from "../base/clock.ts";

function read(): { readonly ticks: bigint; readonly ns: bigint } {
  const out = memory(16);
  callOurs("warren_tsc", out);
  const view = new DataView(out.buffer);
  return { ticks: view.getBigUint64(0, true), ns: view.getBigUint64(8, true) };
}

/** Measured over `windowMs`, in kHz. A reading costs under a microsecond: 200 ms are right to 5 in a million, 50 ms to 20. */
export async function measureTscKhz(clock: Clock, windowMs: number): Promise<number> {
  const from = read();
  await clock.sleep(windowMs);
  const to = read();
  return Math.round((Number(to.ticks - from.ticks) * 1e6) / Number(to.ns - from.ns));
}
