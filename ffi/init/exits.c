/* The kernel's own word on how a jail ended: process accounting, which acct(2) keeps for each pid namespace by itself. */
#include "init.h"

enum { ENOENT = 2 };

/* By /proc, as acct(2) takes a path and nothing of the host's has one in here. Only root opens it, and only through a descriptor. */
i32 keep_exits(i32 fd) {
	static char path[] = "/proc/self/fd/\0\0\0\0\0\0\0\0\0\0";
	char digits[10];
	u64 at = length_of(path), n = 0;
	u32 left = (u32)fd;
	long r;
	if (fd < 0) return ENOENT;
	do {
		digits[n++] = (char)('0' + left % 10);
		left /= 10;
	} while (left > 0);
	while (n > 0) path[at++] = digits[--n];
	r = SC1(NR_acct, path);
	SC1(NR_close, fd);
	return r < 0 ? (i32)-r : 0;
}
