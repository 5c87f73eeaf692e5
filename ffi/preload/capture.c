/* What a paused guest has changed: pages of its memory that no file stands behind any more. */
#include "preload.h"

enum {
	MAX_RUNS = 8192,          /* a process has 65530 mappings, and memory may be captured again and again */
	ENTRIES = 8192,           /* of pagemap at a time: 64 KiB */
	PIECE = 1024 * 1024,      /* copied, then mapped: so much exists twice at a time */
};
#define SWAPPED_OR_PRESENT (3UL << 62)
#define FILE_OR_SHARED (1UL << 61)

static u64 entries[ENTRIES];
static u64 (*table)[2];
static u64 *dirty; /* a bit a page */
static u64 *ever;  /* the same, of every capture so far; kept from the first one on */

static long allocate(u64 length) {
	return sc(NR_mmap, 0, (long)length, PROT_RW, MAP_PRIVATE_ | MAP_ANONYMOUS_, -1, 0);
}

static u64 bitmap_bytes(void) { return (guest_memory.length / PAGE + 63) / 64 * 8; }

static long find_dirty(void) {
	u64 pages = guest_memory.length / PAGE, first = guest_memory.at / PAGE, page = 0;
	long fd = SC2(NR_open, "/proc/self/pagemap", O_RDONLY_ | O_CLOEXEC_), n = 0, i;
	if (fd < 0) return fd;
	while (page < pages) {
		u64 want = pages - page < ENTRIES ? pages - page : ENTRIES;
		n = SC4(NR_pread64, fd, entries, want * 8, (first + page) * 8);
		if (n <= 0 || n % 8 != 0) break;
		for (i = 0; i < n / 8; i++, page++)
			if ((entries[i] & SWAPPED_OR_PRESENT) != 0 && (entries[i] & FILE_OR_SHARED) == 0) dirty[page / 64] |= 1UL << page % 64;
	}
	SC1(NR_close, fd);
	return page == pages ? 0 : n < 0 ? n : -EINVAL;
}

static void mark(u64 *bits, u64 offset, u64 length) {
	u64 page;
	for (page = offset / PAGE; page < (offset + length) / PAGE; page++) bits[page / 64] |= 1UL << page % 64;
}

/* What came from above the lowest file, whether it was there from the start or captured since. */
static long add_since_base(void) {
	struct stretch some[64];
	u64 from = 0, i;
	long n;
	for (i = 0; i < bitmap_bytes() / 8; i++) dirty[i] |= ever[i];
	while ((n = read_table(from, some, 64)) > 0) {
		for (i = 0; i < (u64)n; i++)
			if (some[i].layer > 0 && some[i].guest + some[i].length <= guest_memory.length) mark(dirty, some[i].guest, some[i].length);
		from += (u64)n;
	}
	return n;
}

static u64 next_page(u64 page, u64 pages, u64 wanted) {
	for (; page < pages; page++) {
		u64 word = wanted ? dirty[page / 64] : ~dirty[page / 64];
		if (page % 64 == 0 && word == 0) page += 63;
		else if (word >> page % 64 & 1) return page;
	}
	return pages;
}

/* Runs of dirty pages, those at most `gap` clean pages apart taken together; more than fit are only counted. */
static u64 find_runs(u64 gap) {
	u64 pages = guest_memory.length / PAGE, count = 0, page, end, last_end = 0;
	for (page = next_page(0, pages, 1); page < pages; page = next_page(end, pages, 1)) {
		end = next_page(page, pages, 0);
		if (count > 0 && page - last_end <= gap) {
			if (count <= MAX_RUNS) table[count - 1][1] = (end * PAGE) - table[count - 1][0];
		} else {
			if (count < MAX_RUNS) {
				table[count][0] = page * PAGE;
				table[count][1] = (end - page) * PAGE;
			}
			count++;
		}
		last_end = end;
	}
	return count;
}

static long take_piece(i32 fd, u64 offset, u64 length) {
	u64 done = 0;
	while (done < length) {
		long n = SC4(NR_pwrite64, fd, guest_memory.at + offset + done, length - done, offset + done);
		if (n == -EINTR) continue;
		if (n <= 0) return n < 0 ? n : -EINVAL;
		done += (u64)n;
	}
	return map_pages(offset, length, fd, offset);
}

static long take_run(i32 fd, u64 run[2], u64 *bytes) {
	u64 done, step;
	long r;
	mark(ever, run[0], run[1]);
	for (done = 0; done < run[1]; done += step) {
		step = run[1] - done < PIECE ? run[1] - done : PIECE;
		r = take_piece(fd, run[0] + done, step);
		if (r < 0) {
			run[1] = done; /* the guest stands on so much of it */
			return r;
		}
		*bytes += step;
	}
	return 0;
}

long capture(i32 fd, i32 since_base, u64 (**runs)[2], u64 *count, u64 *bytes) {
	u64 found, gap, i;
	long r;
	*count = *bytes = 0;
	*runs = 0;
	if (guest_memory.length == 0) return -EINVAL;
	r = allocate(MAX_RUNS * sizeof *table + bitmap_bytes());
	if (r < 0) return r;
	table = (u64(*)[2])r;
	dirty = (u64 *)(table + MAX_RUNS);
	*runs = table;
	if (ever == 0) {
		r = allocate(bitmap_bytes());
		if (r < 0) return r;
		ever = (u64 *)r;
	}
	r = find_dirty();
	if (r == 0 && since_base) r = add_since_base();
	if (r < 0) return r;
	for (gap = 0, found = find_runs(0); found > MAX_RUNS; found = find_runs(gap)) gap = gap == 0 ? 1 : gap * 2;
	for (i = 0; i < found && r == 0; i++) r = take_run(fd, table[i], bytes);
	*count = r == 0 || i == 0 || table[i - 1][1] > 0 ? i : i - 1;
	return r;
}

void capture_done(void) {
	if (table != 0) SC2(NR_munmap, table, MAX_RUNS * sizeof *table + bitmap_bytes());
	table = 0;
}
