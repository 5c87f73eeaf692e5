/* Root to nobody, in the order in which each step still has the right to be done. */
#include "init.h"

enum { PR_CAPBSET_DROP_ = 24, PR_SET_SECUREBITS_ = 28, PR_SET_NO_NEW_PRIVS_ = 38, PR_CAP_AMBIENT_ = 47, CLEAR_ALL_ = 4 };

int drop_privileges(u32 id, i64 group, struct failure *why) {
	u32 header[2] = {0x20080522, 0}, none[6] = {0, 0, 0, 0, 0, 0}, groups[1];
	long i, r;
	for (i = 0; i < 64; i++) {
		r = SC2(NR_prctl, PR_CAPBSET_DROP_, i);
		if (r == -EINVAL) break; /* past the last capability of this kernel */
		TRY(AT_CAPS, r);
	}
	TRY(AT_CAPS, SC5(NR_prctl, PR_CAP_AMBIENT_, CLEAR_ALL_, 0, 0, 0));
	/* NOROOT, NO_SETUID_FIXUP off, KEEP_CAPS off, NO_CAP_AMBIENT_RAISE, each with its lock: uid 0 would mean nothing either. */
	TRY(AT_CAPS, SC2(NR_prctl, PR_SET_SECUREBITS_, 0xeb));
	groups[0] = (u32)group;
	TRY(AT_IDS, SC2(NR_setgroups, group >= 0 ? 1 : 0, groups));
	TRY(AT_IDS, SC3(NR_setresgid, id, id, id));
	TRY(AT_IDS, SC3(NR_setresuid, id, id, id));
	TRY(AT_CAPS, SC2(NR_capset, header, none));
	TRY(AT_PRIVS, SC5(NR_prctl, PR_SET_NO_NEW_PRIVS_, 1, 0, 0, 0));
	return 0;
}
