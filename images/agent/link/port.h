/*
 * Ports and channels. A port is one connection to a host process, with a channel space of its own; a channel is one request
 * until its last answer. What a port sends is bounded: streams ask for room first, and reading stops while answers pile up.
 */
#ifndef PORT_H
#define PORT_H

#include "frame.h"
#include "loop.h"

enum {
    PORTS_MAX = 4,
    CHANNELS_MAX = 4096,
    CHANNEL_BUCKETS = 256,
    OUT_SOFT_BYTES = 128 * 1024, /* streams wait above this */
    OUT_HARD_BYTES = 512 * 1024, /* requests are not read above this */
};

struct channel;

struct channel_ops {
    /* DATA of `length` bytes; 0 is its end. NULL: ignored. */
    void (*data)(struct channel *channel, const uint8_t *bytes, uint32_t length);
    /* More credit or room has come. NULL: not a stream. */
    void (*resume)(struct channel *channel);
    /* The host wants its last answer now. */
    void (*cancel)(struct channel *channel);
    /* The host has gone: as cancel, but nobody is there to be answered. The channel is unlinked already. */
    void (*gone)(struct channel *channel);
};

struct channel {
    struct channel *next;
    struct port *port; /* NULL when closed */
    const struct channel_ops *ops;
    uint32_t id;
    uint64_t credit; /* bytes that the host still takes */
};

enum decode_state {
    AT_FRAME,
    IN_PADDING, /* zeros are skipped until another byte begins a frame */
    LOST,       /* the stream makes no sense: everything is skipped until padding */
};

struct port {
    struct source source;
    struct task reader;
    struct timer gone;
    bool socket;  /* an ordinary socket: its end is the end of the agent */
    bool starved; /* a stream waits for room */
    bool reading; /* there may be more to read */
    bool welcome; /* a host has greeted, and the port has only been seen hung up since */
    enum decode_state state;
    uint32_t zeros; /* seen in a row while lost */
    size_t fill;    /* bytes of `in` */
    uint8_t *in;
    struct buf out;
    size_t head_left; /* of a frame whose beginning has been written already */
    uint32_t channels;
    uint32_t greetings; /* and hang-ups: tells one host's requests from the next one's */
    struct channel *buckets[CHANNEL_BUCKETS];
};

/* Opens virtio ports named agent0..agent3 that are not open yet; returns how many are open in all. */
int ports_scan(void);
/* Serves one connection on a socket, for tests. */
void port_adopt(int fd);
/* Sends what has been produced; called before every wait. */
void ports_flush(void);
/* A host has greeted: what an earlier one asked for ends, unsent answers included, but for the rest of a frame already begun. */
void port_welcome(struct port *port);

/* False when the id is in use or there are too many. */
bool channel_open(struct port *port, struct channel *channel, uint32_t id, const struct channel_ops *ops);
struct channel *channel_find(struct port *port, uint32_t id);
void channel_close(struct channel *channel);
/* True when the channel's port takes more stream bytes; otherwise `resume` is called once it does. */
bool channel_room(struct channel *channel);
/* The bytes that may be sent in one frame now, at most `wanted`; 0 means wait for `resume`. */
uint32_t channel_allowance(struct channel *channel, uint64_t wanted);

void say(struct port *port, uint32_t channel, uint8_t type);
void say_u64(struct port *port, uint32_t channel, uint8_t type, uint8_t tag, uint64_t value);
__attribute__((format(printf, 4, 5))) void say_error(struct port *port, uint32_t channel, int code, const char *format,
                                                     ...);

/* What a frame asks for is done by requests.c. */
void handle_frame(struct port *port, const struct frame *frame);

#endif
