/*
 * The guest protocol's bytes: frames, tagged fields and the buffers they are built in. Pure: no descriptors, no globals.
 * Every length that comes from outside is checked against its bound before anything is done with it.
 * The specification is the header of src/guest/protocol.ts; test/golden/frames.json holds both halves to it.
 */
#ifndef FRAME_H
#define FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PROTOCOL_VERSION = 1,
    HEADER_BYTES = 12,
    FRAME_BYTES = 64 * 1024,   /* largest payload */
    WINDOW_BYTES = 256 * 1024, /* credit that a stream starts with */
};

enum ask {
    ASK_PADDING = 0x00,
    ASK_HELLO = 0x01,
    ASK_PING = 0x02,
    ASK_IDENTITY = 0x03,
    ASK_WARM = 0x04,
    ASK_SYNC = 0x05,
    ASK_FREEZE = 0x06,
    ASK_THAW = 0x07,
    ASK_EXEC = 0x10,
    ASK_DATA = 0x11,
    ASK_CREDIT = 0x12,
    ASK_CANCEL = 0x13,
    ASK_SIGNAL = 0x14,
    ASK_PROCESSES = 0x15,
    ASK_ATTACH = 0x16,
    ASK_STDIN = 0x17,
    ASK_RESIZE = 0x18,
    ASK_GET = 0x20,
    ASK_PUT = 0x21,
    ASK_STAT = 0x22,
    ASK_LIST = 0x23,
    ASK_MKDIR = 0x24,
    ASK_RENAME = 0x25,
    ASK_CHMOD = 0x26,
    ASK_REMOVE = 0x27,
    ASK_WATCH = 0x28,
    ASK_DIAL = 0x30,
};

enum say {
    SAY_HELLO = 0x81,
    SAY_PONG = 0x82,
    SAY_DONE = 0x83,
    SAY_ERROR = 0x84,
    SAY_STARTED = 0x90,
    SAY_OUT = 0x91,
    SAY_ERR = 0x92,
    SAY_CREDIT = 0x93,
    SAY_EXIT = 0x94,
    SAY_CHUNK = 0x95,
    SAY_GAP = 0x96,
    SAY_SHUT = 0x97,
};

enum tag {
    TAG_VERSION = 1,
    TAG_NONCE,
    TAG_AGENT,
    TAG_ENTROPY,
    TAG_WALL_NS,
    TAG_HOSTNAME,
    TAG_BOOT_ID,
    TAG_MACHINE_ID,
    TAG_RESEED,
    TAG_ARG,
    TAG_ENV,
    TAG_CWD,
    TAG_USER,
    TAG_TIMEOUT_MS,
    TAG_OUTPUT_LIMIT,
    TAG_FLAGS,
    TAG_CODE,
    TAG_PROCESS,
    TAG_PID,
    TAG_SIGNAL,
    TAG_BYTES,
    TAG_PATH,
    TAG_PATH2,
    TAG_MODE,
    TAG_OFFSET,
    TAG_LENGTH,
    TAG_SIZE,
    TAG_ERRNO,
    TAG_TEXT,
    TAG_STDOUT_BYTES,
    TAG_STDERR_BYTES,
    TAG_DURATION_US,
    TAG_PORT,
    TAG_HOST,
    TAG_ROWS,
    TAG_COLS,
    TAG_END, /* one more than the last known tag */
};

struct frame {
    uint8_t type;
    uint32_t channel;
    uint32_t length;
    const uint8_t *payload;
};

struct field {
    uint8_t tag;
    uint32_t length;
    const uint8_t *bytes; /* NULL when the field is absent */
};

/* The fields of one payload; repeated ones (ARG, ENV) are counted here and read with `fields_next`. */
struct fields {
    const uint8_t *payload;
    uint32_t length;
    uint32_t args, envs;
    struct field known[TAG_END];
};

/* Bytes waiting to go somewhere: data[start, end) is what is left. */
struct buf {
    uint8_t *data;
    size_t start, end, capacity;
};

/* Reads a header; -1 when it breaks the protocol. */
int frame_header(const uint8_t header[HEADER_BYTES], struct frame *out);

/* Parses a payload; -1 when a field runs past the end or a known one comes twice. */
int fields_parse(const uint8_t *payload, uint32_t length, struct fields *out);
/* The next field of `tag` at or after *at, which moves on; false when there is none. */
bool fields_next(const struct fields *fields, uint8_t tag, uint32_t *at, struct field *out);
static inline bool fields_has(const struct fields *fields, uint8_t tag) { return fields->known[tag].bytes != NULL; }
/* An integer field; false when it is absent or not 8 bytes. */
bool fields_u64(const struct fields *fields, uint8_t tag, uint64_t *out);
/* True when the field is absent too. */
bool fields_optional_u64(const struct fields *fields, uint8_t tag, uint64_t *out);
/* A text field without NUL, 1..max-1 bytes, copied and terminated; false otherwise. */
bool fields_text(const struct fields *fields, uint8_t tag, char *out, size_t max);

static inline size_t buf_used(const struct buf *buf) { return buf->end - buf->start; }
/* Makes room for `more` bytes at the end and returns where they go. */
uint8_t *buf_room(struct buf *buf, size_t more);
void buf_put(struct buf *buf, const void *bytes, size_t length);
/* Forgets bytes at the front; gives memory back when an outgrown buffer runs empty. */
void buf_drop(struct buf *buf, size_t length);
void buf_free(struct buf *buf);

/* A frame being built at the end of a buffer. */
struct frame_mark {
    size_t from_start; /* of the buffer's unsent bytes, since data may move */
};
struct frame_mark frame_begin(struct buf *buf, uint8_t type, uint32_t channel);
void frame_end(struct buf *buf, struct frame_mark mark);
void frame_undo(struct buf *buf, struct frame_mark mark);
void put_u64(struct buf *buf, uint8_t tag, uint64_t value);
void put_bytes(struct buf *buf, uint8_t tag, const void *bytes, uint32_t length);

/* Little-endian stores and loads, whatever the alignment. */
static inline void store_u16(uint8_t *at, uint16_t v) { at[0] = (uint8_t)v, at[1] = (uint8_t)(v >> 8); }
static inline void store_u32(uint8_t *at, uint32_t v) {
    store_u16(at, (uint16_t)v);
    store_u16(at + 2, (uint16_t)(v >> 16));
}
static inline void store_u64(uint8_t *at, uint64_t v) {
    store_u32(at, (uint32_t)v);
    store_u32(at + 4, (uint32_t)(v >> 32));
}
static inline uint32_t load_u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}
static inline uint64_t load_u64(const uint8_t *at) { return load_u32(at) | (uint64_t)load_u32(at + 4) << 32; }

/* Memory that the agent cannot go on without: PID 1 says why and stops, and the host sees its guest end. */
void *must_alloc(size_t bytes);
void *must_grow(void *old, size_t bytes);

#endif
