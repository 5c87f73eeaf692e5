/* Stands in front of mmap64 and fallocate64: QEMU's memory file becomes the stretches of the table, and holes stay holes. */
#include "preload.h"

enum { MAX_STRETCHES = 32768, PUNCH_HOLE = 2 };

struct guest_memory guest_memory;
struct settings settings = {-1, -1, -1, -1};

extern i32 *__errno_location(void);

static long fails(long r) {
	*__errno_location() = (i32)-r;
	return -1;
}

/* The same file as the memory that this process was given: QEMU opens it again by its name in /proc. */
static i32 is_ram(i64 fd) {
	u64 a[18], b[18]; /* struct stat: device and inode are the first two words */
	if (settings.ram < 0 || fd < 0) return 0;
	if (SC2(NR_fstat, fd, a) < 0 || SC2(NR_fstat, settings.ram, b) < 0) return 0;
	return a[0] == b[0] && a[1] == b[1];
}

long map_pages(u64 guest, u64 length, i64 fd, u64 offset) {
	long r = sc(NR_mmap, (long)(guest_memory.at + guest), (long)length, PROT_RW, MAP_PRIVATE_ | MAP_FIXED_ | MAP_NORESERVE_,
		fd, (long)offset);
	return r < 0 ? r : 0;
}

static long map_stretch(const struct stretch *s) {
	if (s->guest > guest_memory.length || s->length > guest_memory.length - s->guest) return -EINVAL;
	return map_pages(s->guest, s->length, s->layer == 0 ? settings.ram : settings.layers + s->layer - 1, s->offset);
}

long map_nothing(u64 offset, u64 length) {
	long r = sc(NR_mmap, (long)(guest_memory.at + offset), (long)length, PROT_RW,
		MAP_PRIVATE_ | MAP_FIXED_ | MAP_ANONYMOUS_ | MAP_NORESERVE_, -1, 0);
	return r < 0 ? r : 0;
}

long read_table(u64 from, struct stretch *to, u64 room) {
	long n = SC4(NR_pread64, settings.table, to, room * sizeof *to, from * sizeof *to);
	return n < 0 ? n : n / (long)sizeof *to;
}

static long map_image(u64 at, u64 length, i32 prot, i32 flags) {
	struct stretch some[128];
	u64 done = 0, i;
	long r = sc(NR_mmap, (long)at, (long)length, prot, flags | MAP_ANONYMOUS_ | MAP_NORESERVE_, -1, 0), n;
	if (r < 0) return r;
	guest_memory.at = (u64)r;
	guest_memory.length = length;
	while ((n = read_table(done, some, 128)) > 0) {
		for (i = 0; i < (u64)n; i++) {
			if (done + i >= MAX_STRETCHES || map_stretch(&some[i]) < 0) return -EINVAL;
		}
		done += i;
	}
	return n < 0 ? n : r;
}

__attribute__((visibility("default"))) void *mmap64(void *at, u64 length, i32 prot, i32 flags, i32 fd, i64 offset) {
	long r = guest_memory.length == 0 && (flags & MAP_PRIVATE_) != 0 && is_ram(fd)
		? map_image((u64)at, length, prot, flags)
		: sc(NR_mmap, (long)at, (long)length, prot, flags, fd, offset);
	return (void *)(r < 0 && r > -PAGE ? fails(r) : r);
}

/* The balloon and the guest's reports of free pages come here. The file below is sealed and everybody's: only our view of it goes. */
__attribute__((visibility("default"))) i32 fallocate64(i32 fd, i32 mode, i64 offset, i64 length) {
	long r;
	if ((mode & PUNCH_HOLE) != 0 && guest_memory.length != 0 && is_ram(fd)) {
		if (offset < 0 || length < 0 || (u64)offset + (u64)length > guest_memory.length) return (i32)fails(-EINVAL);
		r = map_nothing((u64)offset, (u64)length);
	} else {
		r = SC4(NR_fallocate, fd, mode, offset, length);
	}
	return (i32)(r < 0 ? fails(r) : r);
}
