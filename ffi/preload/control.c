/*
 * A thread beside QEMU's that serves the host's requests, one connection after another. Each request is
 *   u32 what, u32 number   and one descriptor (SCM_RIGHTS)
 * and its answer
 *   i64 result (0 or -errno), u64 count, u64 bytes, then `count` pairs of u64: offset and length of what was captured.
 *   CAPTURE  what the guest, which is paused, has changed is written into the descriptor, a memory file of its size;
 *            number 1: what differs from its lowest layer, whoever has captured it before
 *   PLACE    the descriptor becomes this process's `number`
 * The thread has no libc under it: it was made by clone alone and shares its thread-local storage with QEMU's first.
 */
#include "preload.h"

enum { CAPTURE = 1, PLACE = 2, STACK_BYTES = 64 * 1024, SCM_RIGHTS_ = 1, SOL_SOCKET_ = 1, CMSG_CLOEXEC = 0x40000000 };
/* CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM */
#define THREAD_FLAGS 0x50f00UL
enum { LOWEST_PLACE = 3 };

struct message_header {
	u64 name, name_length;
	u64 parts, parts_count;
	u64 control, control_length;
	u64 flags;
};
struct request { u32 what, number; };

/* The descriptor that came along; -1 for none. */
static long receive(i64 from, struct request *request) {
	struct { u64 length; i32 level, type; i32 fd, pad; } control;
	struct { u64 at, length; } part;
	struct message_header header;
	long n;
	part.at = (u64)request;
	part.length = sizeof *request;
	zero(&header, sizeof header);
	zero(&control, sizeof control);
	header.parts = (u64)&part;
	header.parts_count = 1;
	header.control = (u64)&control;
	header.control_length = sizeof control;
	do n = SC3(NR_recvmsg, from, &header, CMSG_CLOEXEC); while (n == -EINTR);
	if (control.length < 20 || control.level != SOL_SOCKET_ || control.type != SCM_RIGHTS_) return -1;
	if (n == (long)sizeof *request) return control.fd;
	SC1(NR_close, control.fd);
	return -1;
}

static void send_all(i64 to, const void *bytes, u64 length) {
	u64 done = 0;
	while (done < length) {
		long n = SC3(NR_write, to, (const u8 *)bytes + done, length - done);
		if (n == -EINTR) continue;
		if (n <= 0) return; /* the host has gone: it will find out what stands by itself */
		done += (u64)n;
	}
}

static void answer(i64 to, const struct request *request, i32 fd) {
	struct { i64 result; u64 count, bytes; } head;
	u64(*runs)[2] = 0;
	head.count = head.bytes = 0;
	head.result = -EINVAL;
	if (request->what == CAPTURE) head.result = capture(fd, request->number == 1, &runs, &head.count, &head.bytes);
	if (request->what == PLACE && request->number >= LOWEST_PLACE) head.result = SC3(NR_dup3, fd, request->number, 0);
	if (head.result > 0) head.result = 0;
	send_all(to, &head, sizeof head);
	if (runs != 0) send_all(to, runs, head.count * sizeof *runs);
	capture_done();
}

_Noreturn void serve(void) {
	for (;;) {
		struct request request;
		long to = SC4(NR_accept4, settings.control, 0, 0, O_CLOEXEC_), fd;
		if (to < 0) {
			i64 pause[2] = {0, 100000000}; /* no descriptor is free: not to be asked without end */
			SC5(NR_ppoll, 0, 0, pause, 0, 8);
			continue;
		}
		while ((fd = receive(to, &request)) >= 0) {
			answer(to, &request, (i32)fd);
			SC1(NR_close, fd);
		}
		SC1(NR_close, to);
	}
}

static long start_thread(void) {
	long stack = sc(NR_mmap, 0, STACK_BYTES, PROT_RW, MAP_PRIVATE_ | MAP_ANONYMOUS_, -1, 0), r;
	if (stack < 0) return stack;
	__asm__ volatile(
		"xor %%edx,%%edx\n\txor %%r10d,%%r10d\n\txor %%r8d,%%r8d\n\tmov %1,%%r9\n\tsyscall\n\t"
		"test %%rax,%%rax\n\tjnz 1f\n\txor %%ebp,%%ebp\n\tcall *%%r9\n\thlt\n1:"
		: "=a"(r)
		: "r"(serve), "a"((long)NR_clone), "D"(THREAD_FLAGS), "S"(stack + STACK_BYTES)
		: "rcx", "rdx", "r8", "r9", "r10", "r11", "memory");
	return r;
}

static i64 number(const char **at) {
	i64 value = 0;
	const char *text = *at;
	if (*text < '0' || *text > '9') return -1;
	for (; *text >= '0' && *text <= '9'; text++) value = value * 10 + (*text - '0');
	*at = *text == ',' ? text + 1 : text;
	return value;
}

static const char *setting(char **environment, const char *name) {
	u64 length = length_of(name), i;
	for (; *environment != 0; environment++) {
		for (i = 0; i < length && (*environment)[i] == name[i]; i++) {}
		if (i == length && (*environment)[i] == '=') return *environment + length + 1;
	}
	return 0;
}

/* All signals are blocked in the thread: QEMU takes its own through a descriptor, and must not find them gone. */
__attribute__((constructor)) static void begin(i32 argc, char **argv, char **environment) {
	const char *text = setting(environment, "WARREN_MEMORY");
	u64 all = ~0UL, before = 0;
	(void)argc, (void)argv;
	if (text == 0) return;
	settings.table = number(&text);
	settings.ram = number(&text);
	settings.control = number(&text);
	settings.layers = number(&text);
	if (settings.control < 0) return;
	SC4(NR_rt_sigprocmask, 2, &all, &before, 8);
	start_thread();
	SC4(NR_rt_sigprocmask, 2, &before, 0, 8);
}
