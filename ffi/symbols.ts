/**
 * Every C function that TypeScript calls, with its C types; the FFI declarations and the range checks follow from the types.
 * A test hands this table to gcc: libc's must equal the prototypes in the system's headers, ours those in the C sources.
 */

/** How a C type crosses: the FFI type, and what a value may be. */
export const C_TYPES = {
  int: { ffi: "i32", takes: "number", min: -(2 ** 31), max: 2 ** 31 - 1 },
  "unsigned int": { ffi: "u32", takes: "number", min: 0, max: 2 ** 32 - 1 },
  long: { ffi: "i64", takes: "number", min: Number.MIN_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER },
  "unsigned long": { ffi: "u64", takes: "number", min: 0, max: Number.MAX_SAFE_INTEGER },
  "const char *": { ffi: "ptr", takes: "text" },
  "void *": { ffi: "ptr", takes: "bytes" },
  "const void *": { ffi: "ptr", takes: "bytes" },
  "struct statfs *": { ffi: "ptr", takes: "bytes" },
  "struct pollfd *": { ffi: "ptr", takes: "bytes" },
  "struct timespec *": { ffi: "ptr", takes: "bytes" },
  "const struct sockaddr *": { ffi: "ptr", takes: "bytes" },
  "const struct msghdr *": { ffi: "ptr", takes: "bytes" },
  "siginfo_t *": { ffi: "ptr", takes: "bytes" },
  "long *": { ffi: "ptr", takes: "bytes" },
  "int *": { ffi: "ptr", takes: "bytes" },
  "struct spawn_spec *": { ffi: "ptr", takes: "bytes" },
} as const satisfies Record<string, CType>;

type CType =
  | {
      readonly ffi: "i32" | "u32" | "i64" | "u64";
      readonly takes: "number";
      readonly min: number;
      readonly max: number;
    }
  | { readonly ffi: "ptr"; readonly takes: "text" | "bytes" };

export interface Prototype {
  readonly args: readonly (keyof typeof C_TYPES)[];
  readonly returns: "int" | "long";
  /** Index from which the C prototype says `...`; the arguments are passed alike on x86-64. */
  readonly variadic?: number;
  /** glibc types the parameter as an enum of the same width; gcc counts it as `unsigned int`. */
  readonly enumAt?: number;
}

/** Of libc.so.6: answer -1 and set errno. */
export const LIBC = {
  open: { args: ["const char *", "int", "unsigned int"], returns: "int", variadic: 2 },
  close: { args: ["int"], returns: "int" },
  fcntl: { args: ["int", "int", "int"], returns: "int", variadic: 2 },
  ioctl: { args: ["int", "unsigned long", "void *"], returns: "int", variadic: 2 },
  pipe2: { args: ["int *", "int"], returns: "int" },
  flock: { args: ["int", "int"], returns: "int" },
  lseek: { args: ["int", "long", "int"], returns: "long" },
  ftruncate: { args: ["int", "long"], returns: "int" },
  fallocate: { args: ["int", "int", "long", "long"], returns: "int" },
  pread: { args: ["int", "void *", "unsigned long", "long"], returns: "long" },
  pwrite: { args: ["int", "const void *", "unsigned long", "long"], returns: "long" },
  copy_file_range: { args: ["int", "long *", "int", "long *", "unsigned long", "unsigned int"], returns: "long" },
  sendfile: { args: ["int", "int", "long *", "unsigned long"], returns: "long" },
  memfd_create: { args: ["const char *", "unsigned int"], returns: "int" },
  socket: { args: ["int", "int", "int"], returns: "int" },
  socketpair: { args: ["int", "int", "int", "int *"], returns: "int" },
  bind: { args: ["int", "const struct sockaddr *", "unsigned int"], returns: "int" },
  listen: { args: ["int", "int"], returns: "int" },
  connect: { args: ["int", "const struct sockaddr *", "unsigned int"], returns: "int" },
  sendmsg: { args: ["int", "const struct msghdr *", "int"], returns: "long" },
  send: { args: ["int", "const void *", "unsigned long", "int"], returns: "long" },
  recv: { args: ["int", "void *", "unsigned long", "int"], returns: "long" },
  setsockopt: { args: ["int", "int", "int", "const void *", "unsigned int"], returns: "int" },
  shutdown: { args: ["int", "int"], returns: "int" },
  poll: { args: ["struct pollfd *", "unsigned long", "int"], returns: "int" },
  /** For calls that glibc 2.35 and older have no function for; pointers as numbers. */
  syscall: { args: ["long", "long", "long", "long", "long", "long"], returns: "long", variadic: 1 },
  waitid: { args: ["unsigned int", "unsigned int", "siginfo_t *", "int"], returns: "int", enumAt: 0 },
  mount: { args: ["const char *", "const char *", "const char *", "unsigned long", "const void *"], returns: "int" },
  umount2: { args: ["const char *", "int"], returns: "int" },
  fstatfs: { args: ["int", "struct statfs *"], returns: "int" },
  clock_gettime: { args: ["int", "struct timespec *"], returns: "int" },
} as const satisfies Record<string, Prototype>;

/** Of our own C: answer -errno. */
export const OURS = {
  warren_spawn: { args: ["struct spawn_spec *"], returns: "long" },
  warren_netns_make: { args: ["int", "const char *", "int", "const void *", "int", "int", "int *"], returns: "int" },
  warren_netns_enter: { args: ["int", "int", "const char *", "int", "const void *", "int *"], returns: "int" },
  warren_tsc: { args: ["long *"], returns: "long" },
} as const satisfies Record<string, Prototype>;

/** Fields of `struct spawn_spec` in spawn.c, each 8 bytes, in order. */
export const SPAWN_SPEC = [
  "namespaces",
  "exec_fd",
  "argv",
  "envp",
  "fds",
  "nfds",
  "cgroups",
  "ncgroups",
  "root",
  "hostname",
  "devices",
  "ndevices",
  "rlimits",
  "nrlimits",
  "tap",
  "mac",
  "oom_score",
  "into_cgroup",
  "netns",
  "pid",
  "pidfd",
  "step",
] as const;

/** What spawn.c was doing when it failed: its enum, in order, from 1. */
export const SPAWN_STEPS = [
  "clone",
  "session",
  "cgroup",
  "oom",
  "netns",
  "tap",
  "tap_name",
  "tap_mac",
  "fd_save",
  "fd_place",
  "fd_close",
  "mount_private",
  "mount_root",
  "chdir",
  "mount_dev",
  "mount_proc",
  "pivot",
  "detach",
  "hostname",
  "rlimit",
  "exec",
] as const;
