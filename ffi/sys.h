/*
 * The ground under every C file of this folder: fixed-width types, one way into the kernel, the few numbers we use.
 * Freestanding on purpose: no libc header or symbol, so TinyCC inside Bun and gcc build the same text on a bare host.
 * Every function here returns what the kernel returns: >= 0, or -errno.
 */
#ifndef WARREN_SYS_H
#define WARREN_SYS_H
#ifndef __x86_64__
#error "warren's native part is written for x86-64 Linux"
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long u64;
typedef long i64;

enum {
	NR_read = 0, NR_write = 1, NR_open = 2, NR_close = 3, NR_stat = 4, NR_fstat = 5, NR_mmap = 9, NR_munmap = 11, NR_rt_sigaction = 13,
	NR_rt_sigprocmask = 14, NR_rt_sigreturn = 15, NR_ioctl = 16, NR_pread64 = 17, NR_pwrite64 = 18, NR_recvmsg = 47, NR_clone = 56, NR_execve = 59, NR_exit = 60, NR_wait4 = 61,
	NR_fcntl = 72, NR_chdir = 80, NR_mkdir = 83, NR_umask = 95, NR_setgroups = 116, NR_setresuid = 117, NR_setresgid = 119,
	NR_setsid = 112, NR_mknod = 133, NR_capset = 126, NR_pivot_root = 155, NR_prctl = 157, NR_acct = 163, NR_mount = 165, NR_umount2 = 166,
	NR_sethostname = 170, NR_clock_gettime = 228, NR_exit_group = 231, NR_waitid = 247, NR_ppoll = 271, NR_timerfd_create = 283, NR_fallocate = 285,
	NR_timerfd_settime = 286, NR_accept4 = 288, NR_setns = 308, NR_dup3 = 292, NR_pipe2 = 293, NR_prlimit64 = 302, NR_seccomp = 317, NR_execveat = 322,
	NR_restart_syscall = 219, NR_clone3 = 435, NR_close_range = 436
};

enum { EINTR = 4, EAGAIN = 11, EINVAL = 22 };
enum { O_RDONLY_ = 0, O_WRONLY_ = 1, O_RDWR_ = 2, O_CREAT_ = 0100, O_EXCL_ = 0200, O_NONBLOCK_ = 04000, O_CLOEXEC_ = 02000000 };
enum { F_SETFD_ = 2, F_DUPFD_CLOEXEC_ = 1030, CLOSE_RANGE_CLOEXEC_ = 4 };

__attribute__((unused)) static long sc(long n, long a, long b, long c, long d, long e, long f) {
	long ret;
	__asm__ volatile("mov %5,%%r10\n\tmov %6,%%r8\n\tmov %7,%%r9\n\tsyscall"
		: "=a"(ret) : "a"(n), "D"(a), "S"(b), "d"(c), "m"(d), "m"(e), "m"(f) : "rcx", "r11", "r10", "r8", "r9", "memory");
	return ret;
}
#define SC0(n) sc(n, 0, 0, 0, 0, 0, 0)
#define SC1(n, a) sc(n, (long)(a), 0, 0, 0, 0, 0)
#define SC2(n, a, b) sc(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define SC3(n, a, b, c) sc(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define SC4(n, a, b, c, d) sc(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define SC5(n, a, b, c, d, e) sc(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

__attribute__((unused)) static void zero(void *at, u64 length) {
	volatile u8 *p = (volatile u8 *)at; /* volatile: or gcc turns the loop into a call of memset, which nobody provides */
	while (length-- > 0) *p++ = 0;
}

__attribute__((unused)) static u64 length_of(const char *text) {
	u64 n = 0;
	while (text[n] != 0) n++;
	return n;
}
#endif
