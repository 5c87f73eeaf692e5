/* The output ring; see ring.h. An entry is u8 type, u16 length, payload, and may wrap around. */
#define _GNU_SOURCE
#include "ring.h"

#include <stdlib.h>
#include <string.h>

#include "../link/frame.h"

enum { ENTRY_HEADER_BYTES = 3 };

static uint64_t total_bytes;

uint64_t rings_bytes(void) { return total_bytes; }

static uint32_t wrap(const struct ring *ring, uint32_t offset) {
    return (uint32_t)(((uint64_t)ring->start + offset) % ring->capacity);
}

static void copy_in(struct ring *ring, uint32_t offset, const uint8_t *bytes, uint32_t length) {
    uint32_t at = wrap(ring, offset), first = ring->capacity - at;
    if (first > length) first = length;
    memcpy(ring->bytes + at, bytes, first);
    memcpy(ring->bytes, bytes + first, length - first);
}

static void copy_out(const struct ring *ring, uint32_t offset, uint8_t *bytes, uint32_t length) {
    uint32_t at = wrap(ring, offset), first = ring->capacity - at;
    if (first > length) first = length;
    memcpy(bytes, ring->bytes + at, first);
    memcpy(bytes + first, ring->bytes, length - first);
}

static uint32_t entry_length(const struct ring *ring, uint32_t offset, uint8_t *type) {
    uint8_t header[ENTRY_HEADER_BYTES];
    copy_out(ring, offset, header, sizeof header);
    *type = header[0];
    return (uint32_t)header[1] | (uint32_t)header[2] << 8;
}

static void drop_oldest(struct ring *ring) {
    uint8_t type;
    uint32_t payload = entry_length(ring, 0, &type), whole = payload + ENTRY_HEADER_BYTES;
    ring->start = wrap(ring, whole);
    ring->used -= whole;
    ring->position += whole;
    ring->dropped += payload;
}

/* Twice the memory, within the bounds of a ring and of all rings; false when it stays as it is. */
static bool grow(struct ring *ring) {
    uint32_t capacity = ring->capacity == 0 ? RING_FIRST_BYTES : ring->capacity * 2;
    if (capacity > RING_BYTES) return false;
    /* The first size is always granted: a ring without any could not hold the smallest output. */
    if (ring->capacity > 0 && total_bytes + capacity - ring->capacity > RING_BUDGET_BYTES) return false;
    uint8_t *bytes = must_alloc(capacity);
    if (ring->used > 0) copy_out(ring, 0, bytes, ring->used);
    total_bytes += capacity - ring->capacity;
    free(ring->bytes);
    ring->bytes = bytes;
    ring->capacity = capacity;
    ring->start = 0;
    return true;
}

static void put_entry(struct ring *ring, uint8_t type, const uint8_t *bytes, uint32_t length) {
    uint32_t need = length + ENTRY_HEADER_BYTES;
    while (ring->capacity - ring->used < need) {
        if (!grow(ring)) drop_oldest(ring);
    }
    uint8_t header[ENTRY_HEADER_BYTES] = {type, (uint8_t)length, (uint8_t)(length >> 8)};
    copy_in(ring, ring->used, header, sizeof header);
    copy_in(ring, ring->used + ENTRY_HEADER_BYTES, bytes, length);
    ring->used += need;
}

void ring_put(struct ring *ring, uint8_t type, const uint8_t *bytes, uint32_t length) {
    while (length > 0) {
        uint32_t part = length > RING_ENTRY_BYTES ? RING_ENTRY_BYTES : length;
        put_entry(ring, type, bytes, part);
        bytes += part;
        length -= part;
    }
}

uint64_t ring_missed(const struct ring *ring, struct ring_cursor *cursor) {
    if (cursor->position >= ring->position) return 0;
    uint64_t missed = ring->dropped - cursor->seen;
    *cursor = (struct ring_cursor){.position = ring->position, .seen = ring->dropped};
    return missed;
}

bool ring_peek(const struct ring *ring, const struct ring_cursor *cursor, struct ring_item *out) {
    uint64_t offset = cursor->position - ring->position;
    if (offset >= ring->used) return false;
    uint32_t whole = entry_length(ring, (uint32_t)offset, &out->type);
    out->length = whole - cursor->into;
    uint32_t at = wrap(ring, (uint32_t)offset + ENTRY_HEADER_BYTES + cursor->into), first = ring->capacity - at;
    if (first > out->length) first = out->length;
    out->parts[0] = ring->bytes + at;
    out->part_lengths[0] = first;
    out->parts[1] = ring->bytes;
    out->part_lengths[1] = out->length - first;
    return true;
}

void ring_advance(struct ring_cursor *cursor, const struct ring_item *item, uint32_t length) {
    cursor->seen += length;
    cursor->into += length;
    if (length < item->length) return;
    cursor->position += cursor->into + ENTRY_HEADER_BYTES;
    cursor->into = 0;
}

void ring_clear(struct ring *ring) {
    while (ring->used > 0) drop_oldest(ring);
    total_bytes -= ring->capacity;
    free(ring->bytes);
    ring->bytes = NULL;
    ring->capacity = ring->start = 0;
}
