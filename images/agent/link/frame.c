/* Frames, fields and buffers; see frame.h. */
#define _GNU_SOURCE
#include "frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELD_HEADER_BYTES = 5, BUF_FIRST_BYTES = 4096, BUF_KEPT_BYTES = 64 * 1024 };

void *must_alloc(size_t bytes) {
    void *memory = calloc(1, bytes);
    if (memory == NULL) {
        fputs("warren agent: out of memory\n", stderr);
        abort();
    }
    return memory;
}

void *must_grow(void *old, size_t bytes) {
    void *memory = realloc(old, bytes);
    if (memory == NULL) {
        fputs("warren agent: out of memory\n", stderr);
        abort();
    }
    return memory;
}

int frame_header(const uint8_t header[HEADER_BYTES], struct frame *out) {
    out->length = load_u32(header);
    out->type = header[4];
    out->channel = load_u32(header + 8);
    out->payload = NULL;
    if (out->length > FRAME_BYTES) return -1;
    return header[5] == 0 && header[6] == 0 && header[7] == 0 ? 0 : -1;
}

/* Reads the field at *at; -1 when it runs past the end. */
static int field_at(const uint8_t *payload, uint32_t length, uint32_t *at, struct field *out) {
    if (length - *at < FIELD_HEADER_BYTES) return -1;
    out->tag = payload[*at];
    out->length = load_u32(payload + *at + 1);
    *at += FIELD_HEADER_BYTES;
    if (out->length > length - *at) return -1;
    out->bytes = payload + *at;
    *at += out->length;
    return 0;
}

int fields_parse(const uint8_t *payload, uint32_t length, struct fields *out) {
    memset(out, 0, sizeof *out);
    out->payload = payload;
    out->length = length;
    for (uint32_t at = 0; at < length;) {
        struct field field;
        if (field_at(payload, length, &at, &field) != 0) return -1;
        if (field.tag == 0 || field.tag >= TAG_END) continue;
        if (field.tag == TAG_ARG) {
            out->args++;
        } else if (field.tag == TAG_ENV) {
            out->envs++;
        } else if (out->known[field.tag].bytes != NULL) {
            return -1;
        }
        out->known[field.tag] = field;
    }
    return 0;
}

bool fields_next(const struct fields *fields, uint8_t tag, uint32_t *at, struct field *out) {
    while (*at < fields->length) {
        if (field_at(fields->payload, fields->length, at, out) != 0) return false;
        if (out->tag == tag) return true;
    }
    return false;
}

bool fields_u64(const struct fields *fields, uint8_t tag, uint64_t *out) {
    const struct field *field = &fields->known[tag];
    if (field->bytes == NULL || field->length != 8) return false;
    *out = load_u64(field->bytes);
    return true;
}

bool fields_optional_u64(const struct fields *fields, uint8_t tag, uint64_t *out) {
    return !fields_has(fields, tag) || fields_u64(fields, tag, out);
}

bool fields_text(const struct fields *fields, uint8_t tag, char *out, size_t max) {
    const struct field *field = &fields->known[tag];
    if (field->bytes == NULL || field->length == 0 || field->length >= max) return false;
    if (memchr(field->bytes, 0, field->length) != NULL) return false;
    memcpy(out, field->bytes, field->length);
    out[field->length] = 0;
    return true;
}

uint8_t *buf_room(struct buf *buf, size_t more) {
    size_t used = buf_used(buf);
    if (buf->capacity - buf->end >= more) return buf->data + buf->end;
    if (buf->start > 0) {
        memmove(buf->data, buf->data + buf->start, used);
        buf->start = 0;
        buf->end = used;
    }
    if (buf->capacity - used < more) {
        size_t capacity = buf->capacity < BUF_FIRST_BYTES ? BUF_FIRST_BYTES : buf->capacity;
        while (capacity - used < more) capacity *= 2;
        buf->data = must_grow(buf->data, capacity);
        buf->capacity = capacity;
    }
    return buf->data + buf->end;
}

void buf_put(struct buf *buf, const void *bytes, size_t length) {
    if (length == 0) return;
    memcpy(buf_room(buf, length), bytes, length);
    buf->end += length;
}

void buf_drop(struct buf *buf, size_t length) {
    buf->start += length;
    if (buf->start < buf->end) return;
    buf->start = buf->end = 0;
    if (buf->capacity > BUF_KEPT_BYTES) buf_free(buf);
}

void buf_free(struct buf *buf) {
    free(buf->data);
    *buf = (struct buf){0};
}

struct frame_mark frame_begin(struct buf *buf, uint8_t type, uint32_t channel) {
    struct frame_mark mark = {buf_used(buf)};
    uint8_t *header = buf_room(buf, HEADER_BYTES);
    memset(header, 0, HEADER_BYTES);
    header[4] = type;
    store_u32(header + 8, channel);
    buf->end += HEADER_BYTES;
    return mark;
}

void frame_end(struct buf *buf, struct frame_mark mark) {
    uint8_t *header = buf->data + buf->start + mark.from_start;
    store_u32(header, (uint32_t)(buf_used(buf) - mark.from_start - HEADER_BYTES));
}

void frame_undo(struct buf *buf, struct frame_mark mark) { buf->end = buf->start + mark.from_start; }

void put_u64(struct buf *buf, uint8_t tag, uint64_t value) {
    uint8_t bytes[8];
    store_u64(bytes, value);
    put_bytes(buf, tag, bytes, sizeof bytes);
}

void put_bytes(struct buf *buf, uint8_t tag, const void *bytes, uint32_t length) {
    uint8_t *header = buf_room(buf, FIELD_HEADER_BYTES);
    header[0] = tag;
    store_u32(header + 1, length);
    buf->end += FIELD_HEADER_BYTES;
    buf_put(buf, bytes, length);
}
