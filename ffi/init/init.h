/* What the parts of warren-init share. Compiled freestanding by gcc into one static program; see init.c. */
#ifndef WARREN_INIT_H
#define WARREN_INIT_H
#include "../sys.h"

struct plan {
	i64 uid;        /* the VMM's; init itself takes uid + 1 */
	i64 group;      /* one supplementary group for the VMM, or -1 */
	i64 nfds;       /* descriptors 0..nfds-1 are the VMM's */
	i64 detached;   /* 1: end of file on the control pipe means nothing */
	i64 deadline;   /* CLOCK_BOOTTIME nanoseconds, 0 for none */
	i64 exits;      /* 1: a file is given that takes a record of each process of the jail that ends */
	char **argv, **envp;
	u64 path;       /* where the program's path was put for the one execve; 0: nowhere special */
};

struct failure { i32 error, step; };

/* Order is known to src/host/jail/jail.ts. */
enum { AT_PLAN = 1, AT_FORK, AT_THP, AT_CAPS, AT_IDS, AT_PRIVS, AT_FILTER, AT_EXEC_PATH, AT_EXEC, AT_TIMER };

#define TRY(at, call) do { long r_ = (call); if (r_ < 0) { why->error = (i32)-r_; why->step = at; return -1; } } while (0)

/* Gives up every capability, the ids of root and the way back. Returns 0, or -1 with `why`. */
int drop_privileges(u32 id, i64 group, struct failure *why);
/* Filters are irrevocable and inherited over exec. `path` is the one address from which execve stays allowed; 0: none. */
int filter_vmm(u64 path, struct failure *why);
int filter_init(struct failure *why);
/* Puts the program's path where only root can; the address, or 0 where the host refuses even root. */
u64 path_on_page_zero(const char *path);
/*
 * Has the kernel write down in this file how each process of this pid namespace ends, with what it used and for how long it
 * was there: also when init itself is killed. Needs CAP_SYS_PACCT. Returns 0 or the errno; without it all else goes on.
 */
i32 keep_exits(i32 fd);
/* In the forked child: becomes the VMM; returns only when that failed. */
int become_vmm(const struct plan *plan, struct failure *why);
#endif
