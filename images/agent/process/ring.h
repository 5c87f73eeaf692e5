/*
 * A bounded memory of output: entries of two tagged streams in order, the oldest dropped first. Grows on demand, within a
 * budget that all rings share. Readers keep a cursor of their own and learn how many bytes they have missed.
 */
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stdint.h>

enum {
    RING_BYTES = 256 * 1024,
    RING_FIRST_BYTES = 8 * 1024,
    RING_ENTRY_BYTES = 4 * 1024,
    RING_BUDGET_BYTES = 16 * 1024 * 1024, /* of all rings together */
};

struct ring {
    uint8_t *bytes;
    uint32_t capacity, start, used;
    uint64_t position; /* of `start`, counted from the ring's beginning */
    uint64_t dropped;  /* payload bytes before `start` */
};

struct ring_cursor {
    uint64_t position; /* of the next entry */
    uint64_t seen;     /* payload bytes passed, missed ones included */
    uint32_t into;     /* payload bytes of that entry already read */
};

/* What a cursor comes to next. */
struct ring_item {
    uint8_t type;
    uint32_t length; /* payload bytes of the entry that have not been read */
    const uint8_t *parts[2];
    uint32_t part_lengths[2];
};

void ring_put(struct ring *ring, uint8_t type, const uint8_t *bytes, uint32_t length);
/* Bytes that were dropped before the cursor read them; moves it to what is left. */
uint64_t ring_missed(const struct ring *ring, struct ring_cursor *cursor);
/* False at the end. Call `ring_missed` first. */
bool ring_peek(const struct ring *ring, const struct ring_cursor *cursor, struct ring_item *out);
void ring_advance(struct ring_cursor *cursor, const struct ring_item *item, uint32_t length);
/* Drops everything and gives the memory back; cursors then miss it. */
void ring_clear(struct ring *ring);
/* Memory of all rings. */
uint64_t rings_bytes(void);

#endif
