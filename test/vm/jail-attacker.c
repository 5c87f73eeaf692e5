/*
 * Code execution inside the VMM process, as a program: it runs in a jail in the VMM's place, tries each attack named in its
 * arguments ("name" or "name=value") and reports "name errno" lines on stderr, 0 for an attack that worked. Run outside of a
 * jail, as root, the same attacks work: that is the control. Built with gcc -static.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define E(call) ((call) < 0 ? errno : 0)

static void say(const char *name, int error) { dprintf(2, "%s %d\n", name, error); }

static int read_file(const char *path) {
	char b[16];
	int fd = open(path, O_RDONLY), r;
	if (fd < 0) return errno;
	r = E(read(fd, b, sizeof b));
	close(fd);
	return r;
}

static int open_file(const char *path) {
	int fd = open(path, O_RDWR);
	if (fd < 0) return errno;
	close(fd);
	return 0;
}

static int write_file(const char *path) {
	int fd = open(path, O_WRONLY), r;
	if (fd < 0) return errno;
	r = E(write(fd, "x", 1));
	close(fd);
	return r;
}

static int create_file(const char *dir) {
	char path[300];
	snprintf(path, sizeof path, "%s/attack", dir);
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	if (fd < 0) return errno;
	unlink(path);
	close(fd);
	return 0;
}

/* Says the names in a directory, so that a test can compare the whole list. */
static int list(const char *path) {
	DIR *d = opendir(path);
	struct dirent *e;
	if (d == NULL) return errno;
	while ((e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) dprintf(2, "entry %s\n", e->d_name);
	closedir(d);
	return 0;
}

static int connect_to(const char *name, int abstract) {
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), r;
	if (fd < 0) return errno;
	strncpy(a.sun_path + abstract, name, sizeof a.sun_path - 2);
	r = E(connect(fd, (struct sockaddr *)&a, (socklen_t)(2 + abstract + strlen(name) + !abstract)));
	close(fd);
	return r;
}

static int seal_write(int fd, const char *how) {
	if (strcmp(how, "pwrite") == 0) return E(pwrite(fd, "x", 1, 0));
	if (strcmp(how, "truncate") == 0) return E(ftruncate(fd, 4096));
	if (strcmp(how, "punch") == 0) return E(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	if (strcmp(how, "shared") == 0) return mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? errno : 0;
	if (strcmp(how, "chmod") == 0) return E(fchmod(fd, 0600));
	char path[40];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int again = open(path, O_RDWR), r;
	if (again < 0) return errno;
	r = E(pwrite(again, "x", 1, 0));
	close(again);
	return r;
}

static int private_write(int fd) {
	char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED) return errno;
	p[0] = 'y'; /* what a clone does all the time: must work, and must not reach the file */
	return 0;
}

static int clone_flags(unsigned long flags) {
	long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) _exit(0);
	if (pid < 0) return errno;
	waitpid((pid_t)pid, 0, 0);
	return 0;
}

static int try_exec(char *path) {
	char *argv[] = {path, NULL};
	pid_t pid = fork();
	if (pid == 0 || (pid < 0 && errno == EPERM)) { /* no children here: exec in place */
		execve(path, argv, NULL);
		if (pid == 0) _exit(errno);
		return errno;
	}
	int status;
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status) == 99 ? 0 : WEXITSTATUS(status);
}

/* The one address from which the jail lets execve through: nothing may be put there again. */
static int exec_from_page_zero(int map) {
	char *argv[] = {"/attacker", NULL};
	if (map) {
		char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		if (p == MAP_FAILED) return errno;
		munmap(p, 4096);
		return 0;
	}
	return E((int)syscall(SYS_execve, 16L, argv, NULL));
}

static int set_caps(void) {
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {{0}};
	d[0].effective = d[0].permitted = 1u << CAP_SYS_CHROOT;
	return E((int)syscall(SYS_capset, &h, d));
}

static int raise_limit(void) {
	struct rlimit r;
	getrlimit(RLIMIT_NOFILE, &r);
	r.rlim_cur = r.rlim_max = 600;
	return E(setrlimit(RLIMIT_NOFILE, &r));
}

/* What anyone may do to itself elsewhere: the soft limit up to the hard one. */
static int raise_soft_limit(void) {
	struct rlimit r;
	getrlimit(RLIMIT_FSIZE, &r);
	r.rlim_cur = r.rlim_max;
	return E((int)syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, &r, NULL));
}

static void *nothing(void *x) {
	pause();
	return x;
}

/* Threads until it fails; says how many. */
static int thread_bomb(void) {
	pthread_attr_t a;
	pthread_t t;
	int n = 0;
	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, 16384);
	while (n < 4000 && pthread_create(&t, &a, nothing, NULL) == 0) n++;
	dprintf(2, "threads %d\n", n);
	return n < 4000 ? EAGAIN : 0;
}

static int eat_memory(long mib) {
	for (long i = 0; i < mib; i++) {
		char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED) return errno;
		memset(p, 1, 1 << 20);
	}
	return 0;
}

static int foreign_call(const char *table) {
	long r = SYS_getpid;
	if (strcmp(table, "x32") == 0) return E((int)syscall(0x40000000L + SYS_getpid));
	r = 20; /* getpid of the 32-bit table */
	__asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
	return r < 0 ? (int)-r : 0;
}

/* Every refused call by number, with arguments that no call takes: what answers, the filter or the call itself? */
static int refused(const char *numbers) {
	char *copy = strdup(numbers), *save = NULL;
	for (char *n = strtok_r(copy, ",", &save); n != NULL; n = strtok_r(NULL, ",", &save)) {
		long r = syscall(atol(n), -1L, -1L, -1L, -1L, -1L, -1L);
		dprintf(2, "refused %s %d\n", n, r < 0 ? errno : 0);
	}
	free(copy);
	return 0;
}

static int chatter(int lines) {
	char line[1024];
	memset(line, 'z', sizeof line - 1);
	line[sizeof line - 1] = '\n';
	for (int i = 0; lines == 0 || i < lines; i++)
		if (write(2, line, sizeof line) < 0) return errno;
	return 0;
}

static int on_pid(const char *what, int pid) {
	char byte;
	struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
	struct rlimit r = {1, 1};
	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	if (strcmp(what, "see") == 0) return E(kill(pid, 0));
	if (strcmp(what, "kill") == 0) return E(kill(pid, SIGKILL));
	if (strcmp(what, "stop") == 0) return E(kill(pid, SIGSTOP));
	if (strcmp(what, "tgkill") == 0) return E((int)syscall(SYS_tgkill, pid, pid, SIGKILL));
	if (strcmp(what, "pidfd") == 0) {
		int fd = (int)syscall(SYS_pidfd_open, pid, 0);
		return fd < 0 ? errno : E((int)syscall(SYS_pidfd_send_signal, fd, SIGKILL, 0, 0));
	}
	if (strcmp(what, "ptrace") == 0) return E((int)ptrace(PTRACE_SEIZE, pid, 0, 0));
	if (strcmp(what, "readmem") == 0) return E((int)process_vm_readv(pid, &here, 1, &there, 1, 0));
	if (strcmp(what, "limit") == 0) return E(prlimit(pid, RLIMIT_CORE, &r, NULL));
	if (strcmp(what, "affinity") == 0) return E(sched_setaffinity(pid, sizeof cpus, &cpus));
	return EINVAL;
}

static int attack(char *name, char *value) {
	if (strncmp(name, "pid-", 4) == 0) return on_pid(name + 4, atoi(value));
	if (strcmp(name, "read") == 0) return read_file(value);
	if (strcmp(name, "open") == 0) return open_file(value);
	if (strcmp(name, "write") == 0) return write_file(value);
	if (strcmp(name, "create") == 0) return create_file(value);
	if (strcmp(name, "list") == 0) return list(value);
	if (strcmp(name, "socket") == 0) return E(socket(atoi(value), atoi(value) == AF_NETLINK ? SOCK_RAW : SOCK_DGRAM, 0));
	if (strcmp(name, "abstract") == 0) return connect_to(value, 1);
	if (strcmp(name, "connect") == 0) return connect_to(value, 0);
	if (strncmp(name, "seal-", 5) == 0) return seal_write(atoi(value), name + 5);
	if (strcmp(name, "private") == 0) return private_write(atoi(value));
	if (strcmp(name, "mount") == 0) return E(mount("none", value, "tmpfs", 0, NULL)) ?: E(umount2(value, MNT_DETACH));
	if (strcmp(name, "chroot") == 0) return E(chroot(value));
	if (strcmp(name, "unshare") == 0) return E(unshare((int)strtol(value, NULL, 0)));
	if (strcmp(name, "clone") == 0) return clone_flags(strtoul(value, NULL, 0));
	if (strcmp(name, "exec") == 0) return try_exec(value);
	if (strcmp(name, "exec-zero") == 0) return exec_from_page_zero(atoi(value));
	if (strcmp(name, "caps") == 0) return set_caps();
	if (strcmp(name, "setuid") == 0) return E(setresuid(0, 0, 0));
	if (strcmp(name, "limit") == 0) return raise_limit();
	if (strcmp(name, "soft-limit") == 0) return raise_soft_limit();
	if (strcmp(name, "mknod") == 0) return E(mknod(value, S_IFBLK | 0600, makedev(7, 0))) ?: E(unlink(value));
	if (strcmp(name, "threads") == 0) return thread_bomb();
	if (strcmp(name, "memory") == 0) return eat_memory(atol(value));
	if (strcmp(name, "foreign") == 0) return foreign_call(value);
	if (strcmp(name, "refused") == 0) return refused(value);
	if (strcmp(name, "chatter") == 0) return chatter(atoi(value));
	if (strcmp(name, "all") == 0) return E(kill(-1, SIGKILL));
	return EINVAL;
}

int main(int argc, char **argv) {
	if (argc < 2) return 99; /* what an exec of this program shows */
	for (int i = 1; i < argc; i++) {
		char *name = strdup(argv[i]), *value = strchr(name, '=');
		if (strcmp(name, "hold") == 0) {
			signal(SIGTERM, SIG_IGN);
			dprintf(2, "holding 0\n");
			for (;;) pause();
		}
		if (value != NULL) *value++ = 0;
		say(argv[i], attack(name, value == NULL ? "" : value));
	}
	return 0;
}
