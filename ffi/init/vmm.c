/* The child's way from init's fork to the VMM's first instruction. */
#include "init.h"

enum {
	PR_SET_PDEATHSIG_ = 1, PR_SET_THP_DISABLE_ = 41, PROT_READ_WRITE = 3, MAP_PRIVATE_ANON_FIXED = 0x32, PAGE = 4096,
	PATH_AT = 16 /* not 0: some kernels and tools treat a null path on its own */
};

/*
 * A filter has to let one execve through and none after it, but filters count nothing. So the path is put on page 0: root
 * may map it now, nobody without CAP_SYS_RAWIO can (vm.mmap_min_addr), and the exec unmaps it. The filter then allows
 * execve from that address alone, where after the exec there will never be anything. SELinux may refuse page 0 to root too.
 */
u64 path_on_page_zero(const char *path) {
	u64 length = length_of(path) + 1, i;
	volatile char *to = (volatile char *)PATH_AT;
	if (length > PAGE - PATH_AT) return 0;
	if (SC5(NR_mmap, 0, PAGE, PROT_READ_WRITE, MAP_PRIVATE_ANON_FIXED, -1) != 0) return 0;
	__asm__("" : "+r"(to)); /* hides from the compiler that this address is special */
	for (i = 0; i < length; i++) to[i] = path[i];
	return PATH_AT;
}

int become_vmm(const struct plan *plan, struct failure *why) {
	u64 path = plan->path == 0 ? (u64)plan->argv[0] : plan->path;
	/* A clone touches few pages of much memory: huge ones cost 2 MiB a clone (measured) and win nothing. */
	TRY(AT_THP, SC5(NR_prctl, PR_SET_THP_DISABLE_, 1, 0, 0, 0));
	if (drop_privileges((u32)plan->uid, plan->group, why) < 0) return -1;
	TRY(AT_PRIVS, SC2(NR_prctl, PR_SET_PDEATHSIG_, 9)); /* after the change of ids, which clears it */
	if (filter_vmm(plan->path, why) < 0) return -1;
	TRY(AT_EXEC, SC3(NR_execve, path, plan->argv, plan->envp));
	return 0;
}
