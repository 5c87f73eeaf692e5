/*
 * warren-memory.so: loaded into each restored VMM before its own program. It lets guest RAM consist of several files, one
 * over the other, which QEMU's single memory file cannot, and lets the host take what a paused guest has changed since.
 * Freestanding, but for the two words of libc it must share with QEMU (errno, and the names that it stands in front of).
 */
#ifndef WARREN_PRELOAD_H
#define WARREN_PRELOAD_H
#include "../sys.h"

enum { PAGE = 4096, PROT_RW = 3, MAP_PRIVATE_ = 2, MAP_FIXED_ = 16, MAP_ANONYMOUS_ = 32, MAP_NORESERVE_ = 0x4000 };

/* One stretch of the guest's memory and where its bytes are; src/host/layers.ts writes them. */
struct stretch { u64 guest, length, offset; i64 layer; };

/* The guest's memory as QEMU mapped it; length is 0 until it has. */
extern struct guest_memory { u64 at, length; } guest_memory;

/* What the environment says: WARREN_MEMORY=TABLE,RAM,CONTROL,LAYERS, descriptors; layer 0 is RAM, layer 1 LAYERS, and so on. */
extern struct settings { i64 table, ram, control, layers; } settings;

/* Maps the file's pages in place of what is at this offset of the guest's memory; 0 or -errno. */
long map_pages(u64 guest, u64 length, i64 fd, u64 offset);
/* The next `room` stretches of the table from number `from` on; how many there are, 0 after the last, or -errno. */
long read_table(u64 from, struct stretch *to, u64 room);
/* Maps nothing there: reads as zeros, costs nothing. */
long map_nothing(u64 offset, u64 length);

/* Writes what differs from the files below into `fd` at the same offsets, and lets the guest stand on that from here on; with
 * `since_base` everything that differs from the lowest file, earlier captures included. The guest is paused. `*runs` are offset and length of each stretch written, also when it failed half-way. 0 or -errno. */
long capture(i32 fd, i32 since_base, u64 (**runs)[2], u64 *count, u64 *bytes);
/* Gives the table of `capture` back. */
void capture_done(void);

/* Serves requests on the listening socket for the life of the process; never returns. */
_Noreturn void serve(void);
#endif
