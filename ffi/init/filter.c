/*
 * The two seccomp filters. The VMM's is a list of refusals (refused.h) plus rules on arguments: threads but no processes,
 * no socket but a Unix one, one execve; calls newer than this file are answered ENOSYS. init's is the short list of what its loop does.
 * A foreign architecture or the x32 table ends the process: both exist to slip past a filter written for x86-64 numbers.
 */
#include "init.h"

struct instruction { u16 code; u8 yes, no; u32 k; };
struct program { u16 length; u16 pad[3]; struct instruction *at; };

enum {
	LOAD = 0x20, EQUAL = 0x15, GREATER = 0x25, GREATER_EQUAL = 0x35, ANY_BIT = 0x45, RETURN = 0x06,
	KILL_PROCESS = (int)0x80000000, ALLOW = 0x7fff0000, REFUSE_WITH = 0x00050000,
	OFFSET_NR = 0, OFFSET_ARCH = 4, OFFSET_ARG0 = 16, OFFSET_ARG1 = 24, OFFSET_ARG2 = 32, ARCH_X86_64 = (int)0xc000003e, X32_BIT = 0x40000000,
	EPERM = 1, ENOSYS = 38,
	NEWEST = 450, /* set_mempolicy_home_node: the last call of Linux 6.1, which this list was read against */
	NR_socket = 41, NR_socketpair = 53,
	THREAD = 0x10000, NAMESPACES = 0x7e020000, TIOCSTI = 0x5412, TIOCLINUX = 0x541c
};

static const struct { u16 nr, error; } refused[] = {
#define REFUSE(name, nr, error) {nr, error},
#include "refused.h"
#undef REFUSE
};

static struct instruction text[512];
static u32 used;

static void put(u16 code, u8 yes, u8 no, u32 k) {
	struct instruction i;
	i.code = code;
	i.yes = yes;
	i.no = no;
	i.k = k;
	if (used < 512) text[used++] = i;
}

static void load(u32 offset) { put(LOAD, 0, 0, offset); }
static void answer(u32 what) { put(RETURN, 0, 0, what); }
/* The next `length` instructions run only for this call; they must not fall through, since they overwrite the number. */
static void only_for(u32 nr, u8 length) { put(EQUAL, 0, length, nr); }

static void begin(void) {
	used = 0;
	load(OFFSET_ARCH);
	put(EQUAL, 1, 0, (u32)ARCH_X86_64);
	answer((u32)KILL_PROCESS);
	load(OFFSET_NR);
	put(GREATER_EQUAL, 0, 1, X32_BIT);
	answer((u32)KILL_PROCESS);
}

static int install(struct failure *why) {
	struct program p;
	p.length = (u16)used;
	p.at = text;
	if (used >= 512) TRY(AT_FILTER, -EINVAL);
	TRY(AT_FILTER, SC3(NR_seccomp, 1, 0, &p)); /* SECCOMP_SET_MODE_FILTER */
	return 0;
}

static void rules_on_arguments(u64 path) {
	only_for(NR_clone, 5);
	load(OFFSET_ARG0);
	put(ANY_BIT, 2, 0, NAMESPACES);
	put(ANY_BIT, 0, 1, THREAD);
	answer(ALLOW);
	answer(REFUSE_WITH | EPERM);

	only_for(NR_socket, 4);
	load(OFFSET_ARG0);
	put(EQUAL, 0, 1, 1); /* AF_UNIX */
	answer(ALLOW);
	answer(REFUSE_WITH | EPERM);

	only_for(NR_socketpair, 4);
	load(OFFSET_ARG0);
	put(EQUAL, 0, 1, 1);
	answer(ALLOW);
	answer(REFUSE_WITH | EPERM);

	only_for(NR_ioctl, 5);
	load(OFFSET_ARG1);
	put(EQUAL, 2, 0, TIOCSTI);
	put(EQUAL, 1, 0, TIOCLINUX);
	answer(ALLOW);
	answer(REFUSE_WITH | EPERM);

	/* Limits may be read, which glibc does for every thread, and never set: the soft ones are meant. */
	only_for(NR_prlimit64, 6);
	load(OFFSET_ARG2);
	put(EQUAL, 0, 3, 0);
	load(OFFSET_ARG2 + 4);
	put(EQUAL, 0, 1, 0);
	answer(ALLOW);
	answer(REFUSE_WITH | EPERM);

	if (path == 0) return;
	only_for(NR_execve, 6);
	load(OFFSET_ARG0);
	put(EQUAL, 0, 3, (u32)path);
	load(OFFSET_ARG0 + 4);
	put(EQUAL, 0, 1, (u32)(path >> 32));
	answer(ALLOW);
	answer(REFUSE_WITH | EPERM);
}

int filter_vmm(u64 path, struct failure *why) {
	u32 i;
	begin();
	put(GREATER, 0, 1, NEWEST);
	answer(REFUSE_WITH | ENOSYS);
	for (i = 0; i < sizeof refused / sizeof refused[0]; i++) {
		only_for(refused[i].nr, 1);
		answer(REFUSE_WITH | refused[i].error);
	}
	rules_on_arguments(path);
	answer(ALLOW);
	return install(why);
}

int filter_init(struct failure *why) {
	static const u16 allowed[] = {NR_read, NR_write, NR_close, NR_ppoll, NR_wait4, NR_timerfd_settime, NR_exit_group,
		NR_restart_syscall, NR_rt_sigreturn};
	u32 i;
	begin();
	for (i = 0; i < sizeof allowed / sizeof allowed[0]; i++) {
		only_for(allowed[i], 1);
		answer(ALLOW);
	}
	answer((u32)KILL_PROCESS);
	return install(why);
}
