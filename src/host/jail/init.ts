/** The jail's first process, and what is loaded into each VMM, built from ffi/: a static program and a library, both without libc. */
import dropSource from "../../../ffi/init/drop.c" with { type: "text" };
import exitsSource from "../../../ffi/init/exits.c" with { type: "text" };
import filterSource from "../../../ffi/init/filter.c" with { type: "text" };
import initSource from "../../../ffi/init/init.c" with { type: "text" };
import initHeader from "../../../ffi/init/init.h" with { type: "text" };
import refusedHeader from "../../../ffi/init/refused.h" with { type: "text" };
import vmmSource from "../../../ffi/init/vmm.c" with { type: "text" };
import captureSource from "../../../ffi/preload/capture.c" with { type: "text" };
import controlSource from "../../../ffi/preload/control.c" with { type: "text" };
import imageSource from "../../../ffi/preload/image.c" with { type: "text" };
import preloadHeader from "../../../ffi/preload/preload.h" with { type: "text" };
import sysHeader from "../../../ffi/sys.h" with { type: "text" };
import { builtProgram, type Program } from "./build.ts";

/** Freestanding: no start-up code, no helper that the compiler might call. */
const FREESTANDING =
  "-Wall -Wextra -Werror -ffreestanding -fno-builtin -fno-stack-protector -fno-asynchronous-unwind-tables -nostdlib -Wl,--build-id=none -Wl,-z,noexecstack".split(
    " ",
  );

export const INIT: Program = {
  name: "warren-init",
  files: {
    "sys.h": sysHeader,
    "init/init.h": initHeader,
    "init/refused.h": refusedHeader,
    "init/init.c": initSource,
    "init/vmm.c": vmmSource,
    "init/exits.c": exitsSource,
    "init/drop.c": dropSource,
    "init/filter.c": filterSource,
  },
  flags: ["-Os", ...FREESTANDING, "-static", "-fno-pie", "-no-pie"],
};

export const PRELOAD: Program = {
  name: "warren-memory.so",
  files: {
    "sys.h": sysHeader,
    "preload/preload.h": preloadHeader,
    "preload/image.c": imageSource,
    "preload/capture.c": captureSource,
    "preload/control.c": controlSource,
  },
  flags: ["-O2", ...FREESTANDING, "-fPIC", "-shared", "-fvisibility=hidden"],
};

/** @throws {WarrenError} `host_unsupported` – no compiler */
export function jailInit(home: string): Promise<string> {
  return builtProgram(home, INIT);
}

/** @throws {WarrenError} `host_unsupported` – no compiler */
export function memoryLibrary(home: string): Promise<string> {
  return builtProgram(home, PRELOAD);
}
