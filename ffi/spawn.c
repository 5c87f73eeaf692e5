/*
 * One function: start a process that shares nothing with this one but the descriptors it is given.
 * clone3 with fresh namespaces, then, in the child and in C only: cgroups, tap, descriptors, private root, limits, and
 * the exec of warren-init. The child borrows this process's memory (CLONE_VM|CLONE_VFORK on a stack of its own), which is
 * why it costs the same however large the caller is, and why the child must touch nothing but `spec` and its stack.
 * Call it from one thread only: the stack is static. sys.h stands before this text when it is compiled.
 */
struct rlimit_row { u64 resource, soft, hard; };

/* All fields 8 bytes wide, so that one BigInt64Array fills it; offsets are compared with symbols.ts by a test. */
struct spawn_spec {
	u64 namespaces;  /* CLONE_NEW* */
	i64 exec_fd;     /* the static program to run */
	u64 argv, envp;  /* char *[] ending in 0 */
	u64 fds, nfds;   /* i32[]: source of descriptor i; -1 is the tap */
	u64 cgroups, ncgroups; /* i32[]: cgroup.procs descriptors to join */
	u64 root;        /* char *: becomes "/" */
	u64 hostname;    /* char * */
	u64 devices, ndevices; /* char *[]: names below /dev */
	u64 rlimits, nrlimits; /* struct rlimit_row[] */
	u64 tap, mac;    /* char *, u8[6]; 0 for none */
	i64 oom_score;   /* 0..1000 */
	i64 into_cgroup; /* v2: directory of the cgroup to be born in, which unlike joining waits for nobody; -1 for none */
	i64 netns;       /* network namespace to go to; -1 for none */
	i64 pid, pidfd;  /* out */
	i64 step;        /* out: where it failed */
};

/* Order is the order of execution; the names are in symbols.ts, in the same order. */
enum {
	AT_CLONE = 1, AT_SESSION, AT_CGROUP, AT_OOM, AT_NETNS, AT_TAP, AT_TAP_NAME, AT_TAP_MAC, AT_FD_SAVE, AT_FD_PLACE, AT_FD_CLOSE,
	AT_MOUNT_PRIVATE, AT_MOUNT_ROOT, AT_CHDIR, AT_MOUNT_DEV, AT_MOUNT_PROC, AT_PIVOT, AT_DETACH, AT_HOSTNAME, AT_RLIMIT, AT_EXEC
};

enum {
	MS_RDONLY_ = 1, MS_NOSUID_ = 2, MS_NODEV_ = 4, MS_NOEXEC_ = 8, MS_REMOUNT_ = 32, MS_BIND_ = 4096, MS_REC_ = 16384,
	MS_PRIVATE_ = 1 << 18, MNT_DETACH_ = 2, AT_EMPTY_PATH_ = 0x1000, P_PIDFD_ = 3, WEXITED_ = 4, WALL_ = 0x40000000,
	S_IFMT_ = 0170000, S_IFCHR_ = 0020000
};
/* CLONE_VM | CLONE_VFORK | CLONE_PIDFD; the exit signal is 0: only a waitid on the pidfd reaps. */
#define CLONE_VM_VFORK_PIDFD 0x5100UL

struct clone_args {
	u64 flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};
struct failure { i32 error, step; };

#define TRY(at, call) do { long r_ = (call); if (r_ < 0) { why->error = (i32)-r_; why->step = at; return -1; } } while (0)

static void reset_signals(void) {
	u64 none = 0, by_default[4] = {0, 0, 0, 0};
	long i;
	for (i = 1; i < 65; i++) sc(NR_rt_sigaction, i, (long)by_default, 0, 8, 0, 0); /* SIGKILL and SIGSTOP refuse: fine */
	sc(NR_rt_sigprocmask, 2, (long)&none, 0, 8, 0, 0);
}

static int write_text(const char *path, const char *text) {
	long fd = SC2(NR_open, path, O_WRONLY_ | O_CLOEXEC_), r;
	if (fd < 0) return (int)fd;
	r = SC3(NR_write, fd, text, length_of(text));
	SC1(NR_close, fd);
	return r < 0 ? (int)r : 0;
}

static int set_oom_score(i64 score, struct failure *why) {
	char text[8];
	int i = 7;
	text[i] = 0;
	do { text[--i] = (char)('0' + score % 10); score /= 10; } while (score > 0 && i > 0);
	TRY(AT_OOM, write_text("/proc/self/oom_score_adj", text + i));
	return 0;
}

static int join_cgroups(const struct spawn_spec *s, struct failure *why) {
	const i32 *fds = (const i32 *)s->cgroups;
	u64 i;
	for (i = 0; i < s->ncgroups; i++) TRY(AT_CGROUP, SC3(NR_write, fds[i], "0", 1));
	return 0;
}

/*
 * A new one's link stays down: whoever wires the namespace sets it up. In a namespace that was given, the tap is there already.
 * Returns the descriptor.
 */
static long make_tap(const struct spawn_spec *s, struct failure *why) {
	struct { char name[16]; union { u16 flags; struct { u16 family; u8 data[14]; } address; u8 pad[24]; } u; } request;
	const char *name = (const char *)s->tap;
	const u8 *mac = (const u8 *)s->mac;
	long fd = SC2(NR_open, "/dev/net/tun", O_RDWR_ | O_CLOEXEC_);
	int i;
	TRY(AT_TAP, fd);
	zero(&request, sizeof request);
	for (i = 0; i < 15 && name[i] != 0; i++) request.name[i] = name[i];
	request.u.flags = 0x5002; /* IFF_TAP | IFF_NO_PI | IFF_VNET_HDR */
	TRY(AT_TAP_NAME, SC3(NR_ioctl, fd, 0x400454ca, &request)); /* TUNSETIFF */
	if (mac == 0) return fd;
	/* Persistent: else closing it waits 30 ms for RCU in the dying VMM; so the namespace takes it down, in the background. */
	TRY(AT_TAP_NAME, SC3(NR_ioctl, fd, 0x400454cb, 1)); /* TUNSETPERSIST */
	zero(&request.u, sizeof request.u);
	request.u.address.family = 1; /* ARPHRD_ETHER */
	for (i = 0; i < 6; i++) request.u.address.data[i] = mac[i];
	TRY(AT_TAP_MAC, SC3(NR_ioctl, fd, 0x8924, &request)); /* SIOCSIFHWADDR */
	return fd;
}

/* Sources first move out of the way, above every target, so that no placing overwrites a source. */
static int place_descriptors(const struct spawn_spec *s, long *exec_fd, long *report, i32 *saved, struct failure *why) {
	const i32 *fds = (const i32 *)s->fds;
	long n = (long)s->nfds, i, r, tap = -1;
	if (s->tap != 0) {
		tap = make_tap(s, why);
		if (tap < 0) return -1;
	}
	for (i = 0; i < n; i++) {
		r = SC3(NR_fcntl, fds[i] < 0 ? tap : fds[i], F_DUPFD_CLOEXEC_, n);
		TRY(AT_FD_SAVE, r);
		saved[i] = (i32)r;
	}
	r = SC3(NR_fcntl, *exec_fd, F_DUPFD_CLOEXEC_, n);
	TRY(AT_FD_SAVE, r);
	*exec_fd = r;
	r = SC3(NR_fcntl, *report, F_DUPFD_CLOEXEC_, n);
	TRY(AT_FD_SAVE, r);
	*report = r;
	for (i = 0; i < n; i++) TRY(AT_FD_PLACE, SC3(NR_dup3, saved[i], i, 0));
	TRY(AT_FD_CLOSE, SC3(NR_close_range, n, 0xffffffffU, CLOSE_RANGE_CLOEXEC_));
	return 0;
}

static void join_path(char *out, u64 room, const char *a, const char *b) {
	u64 n = 0;
	while (*a != 0 && n + 1 < room) out[n++] = *a++;
	while (*b != 0 && n + 1 < room) out[n++] = *b++;
	out[n] = 0;
}

/*
 * The host's device as a node of the jail's own, open to the jail's only user, whom the host's node may not know: without
 * udev /dev/kvm is root's alone. Where nodes may not be made, the host's own is bound, and its group has to help.
 */
static int make_device(const char *from, const char *to, struct failure *why) {
	u64 stat[18]; /* struct stat: mode is the low half of [3], the device's number [5] */
	u32 mode;
	long fd;
	TRY(AT_MOUNT_DEV, SC2(NR_stat, from, stat));
	mode = (u32)stat[3];
	if ((mode & S_IFMT_) == S_IFCHR_ && SC3(NR_mknod, to, S_IFCHR_ | 0666, stat[5]) == 0) return 0;
	fd = SC3(NR_open, to, O_CREAT_ | O_EXCL_ | O_WRONLY_ | O_CLOEXEC_, 0644);
	TRY(AT_MOUNT_DEV, fd);
	SC1(NR_close, fd);
	TRY(AT_MOUNT_DEV, SC5(NR_mount, from, to, 0, MS_BIND_, 0));
	return 0;
}

/* A tmpfs with nothing in it but the devices asked for. */
static int make_dev(const struct spawn_spec *s, struct failure *why) {
	const char **names = (const char **)s->devices;
	char from[64], to[64];
	u64 i;
	if (s->ndevices == 0) return 0;
	TRY(AT_MOUNT_DEV, SC5(NR_mount, "dev", "dev", "tmpfs", MS_NOSUID_ | MS_NOEXEC_, "mode=755,size=4k,nr_inodes=32"));
	SC1(NR_umask, 0);
	for (i = 0; i < s->ndevices; i++) {
		join_path(from, sizeof from, "/dev/", names[i]);
		join_path(to, sizeof to, "dev/", names[i]);
		if (make_device(from, to, why) < 0) return -1;
	}
	SC1(NR_umask, 077);
	TRY(AT_MOUNT_DEV, SC5(NR_mount, 0, "dev", 0, MS_REMOUNT_ | MS_BIND_ | MS_RDONLY_ | MS_NOSUID_ | MS_NOEXEC_, 0));
	return 0;
}

/* After this the host's files cannot be named: the old root is unmounted, the new one is one read-only bind mount. */
static int enter_root(const struct spawn_spec *s, struct failure *why) {
	u64 sealed = MS_NOSUID_ | MS_NODEV_;
	TRY(AT_MOUNT_PRIVATE, SC5(NR_mount, "none", "/", 0, MS_REC_ | MS_PRIVATE_, 0));
	TRY(AT_MOUNT_ROOT, SC5(NR_mount, s->root, s->root, 0, MS_BIND_, 0));
	TRY(AT_MOUNT_ROOT, SC5(NR_mount, 0, s->root, 0, MS_REMOUNT_ | MS_BIND_ | MS_RDONLY_ | sealed, 0));
	TRY(AT_CHDIR, SC1(NR_chdir, s->root));
	if (make_dev(s, why) < 0) return -1;
	TRY(AT_MOUNT_PROC, SC5(NR_mount, "proc", "proc", "proc", MS_RDONLY_ | MS_NOEXEC_ | sealed, "hidepid=2,subset=pid"));
	TRY(AT_PIVOT, SC2(NR_pivot_root, ".", "."));
	TRY(AT_DETACH, SC2(NR_umount2, ".", MNT_DETACH_));
	TRY(AT_CHDIR, SC1(NR_chdir, "/"));
	return 0;
}

/* Limits are only ever lowered: a hard limit above ours would need CAP_SYS_RESOURCE, which containers often lack. */
static int set_limits(const struct spawn_spec *s, struct failure *why) {
	const struct rlimit_row *rows = (const struct rlimit_row *)s->rlimits;
	u64 i, now[2], want[2];
	for (i = 0; i < s->nrlimits; i++) {
		TRY(AT_RLIMIT, SC4(NR_prlimit64, 0, rows[i].resource, 0, now));
		want[1] = rows[i].hard < now[1] ? rows[i].hard : now[1];
		want[0] = rows[i].soft < want[1] ? rows[i].soft : want[1];
		TRY(AT_RLIMIT, SC4(NR_prlimit64, 0, rows[i].resource, want, 0));
	}
	return 0;
}

#define MAX_FDS 128
static int become(const struct spawn_spec *s, long *report, struct failure *why) {
	i32 saved[MAX_FDS];
	long exec_fd = s->exec_fd;
	reset_signals();
	SC1(NR_umask, 077);
	TRY(AT_SESSION, SC0(NR_setsid));
	if (join_cgroups(s, why) < 0) return -1;
	if (set_oom_score(s->oom_score, why) < 0) return -1;
	if (s->netns >= 0) TRY(AT_NETNS, SC2(NR_setns, s->netns, 0x40000000)); /* CLONE_NEWNET */
	if (place_descriptors(s, &exec_fd, report, saved, why) < 0) return -1;
	if (enter_root(s, why) < 0) return -1;
	TRY(AT_HOSTNAME, SC2(NR_sethostname, s->hostname, length_of((const char *)s->hostname)));
	if (set_limits(s, why) < 0) return -1;
	TRY(AT_EXEC, SC5(NR_execveat, exec_fd, "", s->argv, s->envp, AT_EMPTY_PATH_));
	return 0;
}

struct start { void (*run)(struct start *); const struct spawn_spec *spec; long report; };

static void in_child(struct start *x) {
	struct failure why = {0, 0};
	become(x->spec, &x->report, &why);
	SC3(NR_write, x->report, &why, sizeof why);
	SC1(NR_exit_group, 127);
}

static u8 child_stack[65536] __attribute__((aligned(16)));

/* 0 with `pid` and `pidfd` set once warren-init runs; else -errno with `step` set and no process left. */
i64 warren_spawn(struct spawn_spec *s) {
	i32 pipe[2], pidfd = -1;
	struct failure why = {0, 0};
	struct clone_args args;
	struct start x;
	u64 before, all = ~0UL;
	long r, n;
	s->step = AT_CLONE;
	if (s->nfds > MAX_FDS) return -EINVAL;
	r = SC2(NR_pipe2, pipe, O_CLOEXEC_);
	if (r < 0) return r;
	zero(&args, sizeof args);
	args.flags = s->namespaces | CLONE_VM_VFORK_PIDFD;
	args.pidfd = (u64)&pidfd;
	if (s->into_cgroup >= 0) {
		args.flags |= 0x200000000UL; /* CLONE_INTO_CGROUP */
		args.cgroup = (u64)s->into_cgroup;
	}
	args.stack = (u64)child_stack;
	args.stack_size = sizeof child_stack;
	x.run = in_child;
	x.spec = s;
	x.report = pipe[1];
	sc(NR_rt_sigprocmask, 0, (long)&all, (long)&before, 8, 0, 0); /* no handler of ours may run on the child's side */
	/* The branch into the child is one block: a C function that returns twice on one stack would destroy it. */
	__asm__ volatile(
		"syscall\n\ttest %%rax,%%rax\n\tjnz 1f\n\txor %%ebp,%%ebp\n\tand $-16,%%rsp\n\tmov %%rbx,%%rdi\n\tcall *(%%rbx)\n\thlt\n1:"
		: "=a"(r) : "a"((long)NR_clone3), "D"(&args), "S"((long)sizeof args), "b"(&x) : "rcx", "r11", "memory");
	sc(NR_rt_sigprocmask, 2, (long)&before, 0, 8, 0, 0);
	SC1(NR_close, pipe[1]);
	if (r < 0) {
		SC1(NR_close, pipe[0]);
		return r;
	}
	do n = SC3(NR_read, pipe[0], &why, sizeof why); while (n == -EINTR); /* end of file: the exec closed the other end */
	SC1(NR_close, pipe[0]);
	if (n == (long)sizeof why) {
		u8 info[128];
		sc(NR_waitid, P_PIDFD_, pidfd, (long)info, WEXITED_ | WALL_, 0, 0);
		SC1(NR_close, pidfd);
		s->step = why.step;
		return -(i64)why.error;
	}
	s->pid = r;
	s->pidfd = pidfd;
	s->step = 0;
	return 0;
}
