/*
 * warren-init: PID 1 of a jail. It starts the VMM, keeps the deadline and the slot's lock, and its end is the jail's end:
 * the kernel kills every process of a pid namespace with its first. It ends when the VMM does, at the deadline, or, unless
 * detached, when the other end of its control pipe closes, which is how the death of the owner looks from here.
 *
 *   argv: warren-init UID GROUP NFDS DETACHED DEADLINE_NS EXITS PROGRAM ARGUMENTS...
 *   descriptors: 0..NFDS-1 the VMM's, then control (read), status (write), slot lock, when detached control (write), and
 *   with EXITS the file that the kernel writes ends to (exits.c)
 *   control: 8-byte integers, each a new deadline in CLOCK_BOOTTIME nanoseconds, 0 for none
 *   status: records of 4 x 4 bytes: {1, sealed | errno of acct << 8, start, start} running, with the low and the high half of
 *   CLOCK_MONOTONIC in nanoseconds right before the VMM's process was made; {2, step, errno, 0} not started;
 *   {3, reason, code, signal} ended
 *
 * Once the VMM runs, init moves its own descriptors to 0..3, so that whoever adopts the jail finds control at 0.
 */
#include "init.h"

enum { CONTROL, STATUS, SLOT, CONTROL_KEPT, TIMER, CHILD, REPORT, OWN };
enum { RUNNING = 1, NOT_STARTED = 2, ENDED = 3 };
enum { BY_DEADLINE = 1, BY_OWNER = 2, BY_VMM = 3 };
enum { POLLIN = 1, CLOCK_MONOTONIC_ = 1, CLOCK_BOOTTIME_ = 7, TFD_ABSTIME = 1, CLONE_PIDFD_SIGCHLD = 0x1011, PR_SET_DUMPABLE_ = 4, PR_SET_NAME_ = 15 };
enum { WALL = 0x40000000 };

static i32 status = -1; /* where `say` writes: known once the plan is read, and again when descriptors have moved */

static void say(i32 kind, i32 a, i32 b, i32 c) {
	i32 record[4];
	record[0] = kind;
	record[1] = a;
	record[2] = b;
	record[3] = c;
	SC3(NR_write, status, record, sizeof record); /* the owner may be gone: EPIPE, with SIGPIPE ignored as for any PID 1 */
}

static int number(const char *text, i64 *out) {
	i64 value = 0, sign = 1;
	if (*text == '-') {
		sign = -1;
		text++;
	}
	if (*text == 0) return -1;
	for (; *text != 0; text++) {
		if (*text < '0' || *text > '9') return -1;
		value = value * 10 + (*text - '0');
	}
	*out = sign * value;
	return 0;
}

static int read_plan(long argc, char **argv, char **envp, struct plan *plan) {
	i64 *to[6];
	int i;
	to[0] = &plan->uid;
	to[1] = &plan->group;
	to[2] = &plan->nfds;
	to[3] = &plan->detached;
	to[4] = &plan->deadline;
	to[5] = &plan->exits;
	if (argc < 8) return -1;
	for (i = 0; i < 6; i++)
		if (number(argv[i + 1], to[i]) < 0) return -1;
	plan->argv = argv + 7;
	plan->envp = envp;
	status = (i32)plan->nfds + 1;
	plan->path = path_on_page_zero(plan->argv[0]);
	return plan->uid > 0 && plan->nfds >= 0 && plan->nfds <= 120 ? 0 : -1;
}

static long arm(i64 deadline) {
	i64 when[4] = {0, 0, 0, 0};
	when[2] = deadline / 1000000000;
	when[3] = deadline % 1000000000;
	return SC4(NR_timerfd_settime, TIMER, TFD_ABSTIME, when, 0);
}

/* From here on 0..OWN-1 are init's and everything else is closed. */
static void settle_descriptors(const struct plan *plan, i32 timer, i32 child, i32 report) {
	i32 from[OWN], i;
	from[CONTROL] = (i32)plan->nfds;
	from[STATUS] = (i32)plan->nfds + 1;
	from[SLOT] = (i32)plan->nfds + 2;
	from[CONTROL_KEPT] = (i32)plan->nfds + (plan->detached ? 3 : 2);
	from[TIMER] = timer;
	from[CHILD] = child;
	from[REPORT] = report;
	for (i = 0; i < OWN; i++) from[i] = (i32)SC3(NR_fcntl, from[i], F_DUPFD_CLOEXEC_, OWN);
	for (i = 0; i < OWN; i++) SC3(NR_dup3, from[i], i, O_CLOEXEC_);
	SC3(NR_close_range, OWN, 0xffffffffU, 0);
	status = STATUS;
}

static _Noreturn void leave(i32 reason, i32 code, i32 signal) {
	say(ENDED, reason, code, signal);
	for (;;) SC1(NR_exit_group, 0);
}

static void on_control(const struct plan *plan) {
	i64 deadlines[64];
	long n = SC3(NR_read, CONTROL, deadlines, sizeof deadlines);
	if (n == 0 && !plan->detached) leave(BY_OWNER, 0, 0);
	if (n >= 8) arm(deadlines[n / 8 - 1]);
}

static void on_child(i32 pid) {
	i32 how = 0;
	if (SC4(NR_wait4, pid, &how, WALL, 0) != pid) return;
	leave(BY_VMM, (how & 0x7f) == 0 ? (how >> 8) & 0xff : -1, how & 0x7f);
}

static _Noreturn void watch(const struct plan *plan, i32 pid) {
	struct { i32 fd; u16 events, got; } at[3];
	i32 fds[3] = {CHILD, TIMER, CONTROL}, i;
	for (;;) {
		for (i = 0; i < 3; i++) {
			at[i].fd = fds[i];
			at[i].events = POLLIN;
			at[i].got = 0;
		}
		if (SC5(NR_ppoll, at, 3, 0, 0, 8) <= 0) continue;
		if (at[0].got != 0) on_child(pid);
		if (at[1].got != 0) leave(BY_DEADLINE, 0, 0);
		if (at[2].got != 0) on_control(plan);
	}
}

struct started { i32 pid, exits_error; i64 at; };

static i64 now(void) {
	i64 at[2] = {0, 0};
	SC2(NR_clock_gettime, CLOCK_MONOTONIC_, at);
	return at[0] * 1000000000 + at[1];
}

static int start(const struct plan *plan, struct started *vmm, struct failure *why) {
	i32 report[2], child = -1, uid = (i32)plan->uid + 1;
	long timer, r, n;
	struct failure of_child = {0, 0};
	TRY(AT_PLAN, SC3(NR_close_range, plan->nfds, 0xffffffffU, CLOSE_RANGE_CLOEXEC_));
	timer = SC2(NR_timerfd_create, CLOCK_BOOTTIME_, O_CLOEXEC_);
	TRY(AT_TIMER, timer);
	TRY(AT_FORK, SC2(NR_pipe2, report, O_CLOEXEC_));
	vmm->exits_error = keep_exits(plan->exits ? (i32)plan->nfds + 3 + (plan->detached ? 1 : 0) : -1);
	vmm->at = now();
	r = SC5(NR_clone, CLONE_PIDFD_SIGCHLD, 0, &child, 0, 0);
	TRY(AT_FORK, r);
	if (r == 0) {
		become_vmm(plan, &of_child);
		SC3(NR_write, report[1], &of_child, sizeof of_child);
		for (;;) SC1(NR_exit_group, 127);
	}
	vmm->pid = (i32)r;
	if (plan->path != 0) SC2(NR_munmap, 0, 4096);
	SC1(NR_close, report[1]);
	settle_descriptors(plan, (i32)timer, child, report[0]);
	SC2(NR_prctl, PR_SET_NAME_, "warren-init");
	if (drop_privileges((u32)uid, -1, why) < 0) return -1;
	TRY(AT_PRIVS, SC2(NR_prctl, PR_SET_DUMPABLE_, 0));
	if (filter_init(why) < 0) return -1;
	if (plan->deadline > 0) TRY(AT_TIMER, arm(plan->deadline));
	do n = SC3(NR_read, REPORT, &of_child, sizeof of_child); while (n == -EINTR);
	SC1(NR_close, REPORT);
	*why = of_child;
	return n == (long)sizeof of_child ? -1 : 0;
}

__attribute__((used)) _Noreturn void run(long *stack) {
	long argc = stack[0];
	char **argv = (char **)(stack + 1);
	struct plan plan;
	struct failure why = {0, 0};
	struct started vmm = {0, 0, 0};
	zero(&plan, sizeof plan);
	if (read_plan(argc, argv, argv + argc + 1, &plan) == 0 && start(&plan, &vmm, &why) == 0) {
		say(RUNNING, (plan.path != 0) | vmm.exits_error << 8, (i32)vmm.at, (i32)(vmm.at >> 32));
		watch(&plan, vmm.pid);
	}
	say(NOT_STARTED, why.step == 0 ? AT_PLAN : why.step, why.error == 0 ? EINVAL : why.error, 0);
	for (;;) SC1(NR_exit_group, 1);
}

__asm__(".globl _start\n_start:\n\txor %ebp,%ebp\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall run\n\thlt\n");
