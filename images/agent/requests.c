/* Which frame does what. */
#define _GNU_SOURCE
#include <errno.h>

#include "dial/dial.h"
#include "freeze/freeze.h"
#include "warm/fits.h"
#include "warm/warm.h"
#include "watch/watch.h"

#include <malloc.h>
#include <string.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

enum { HEAP_KEPT_BYTES = 256 * 1024 };

/* RCU callbacks, freed cgroups and their kin are done in this time, under emulation too. */
#define REST_NS 500000000u

typedef void (*handler)(struct port *port, const struct frame *frame, const struct fields *fields);

static void handle_hello(struct port *port, const struct frame *frame, const struct fields *fields) {
    uint64_t version = 0;
    freeze_end(); /* whoever froze is gone, or was the parent of this guest; and first, for what follows may write */
    port_welcome(port);
    if (!fields_u64(fields, TAG_VERSION, &version) || version != PROTOCOL_VERSION) {
        say_error(port, frame->channel, EPROTONOSUPPORT, "this agent speaks version %d", PROTOCOL_VERSION);
        return;
    }
    struct frame_mark mark = frame_begin(&port->out, SAY_HELLO, frame->channel);
    put_u64(&port->out, TAG_VERSION, PROTOCOL_VERSION);
    put_bytes(&port->out, TAG_NONCE, agent.nonce, NONCE_BYTES);
    put_bytes(&port->out, TAG_AGENT, AGENT_VERSION, (uint32_t)strlen(AGENT_VERSION));
    frame_end(&port->out, mark);
}

/* Pages that are free in larger blocks go back to the host; page cache stays, it is warm on purpose. */
static void settle_memory(void) {
    if (agent.is_init) sync(); /* an ordinary process has no business with every disk of its machine */
    malloc_trim(HEAP_KEPT_BYTES); /* what the next requests take needs no system call */
    int fd = agent.is_init ? open("/proc/sys/vm/compact_memory", O_WRONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        if (write(fd, "1", 1) < 0) note("compact_memory: %s", strerror(errno)); /* a larger snapshot, nothing worse */
        close(fd);
    }
}

/* A SYNC that waits for the kernel to come to rest; one at a time, which is all that a bake needs. */
static struct {
    struct timer timer;
    struct channel channel;
} rest;

static void answer_sync(struct port *port, uint32_t channel) {
    fits_remember();
    if (!warm_settles(port, channel)) say(port, channel, SAY_DONE);
}

static void rested(struct timer *timer) {
    (void)timer;
    struct port *port = rest.channel.port;
    if (port == NULL) return;
    channel_close(&rest.channel);
    answer_sync(port, rest.channel.id);
}

static void rest_gone(struct channel *channel) { (void)channel; }

static void rest_cancel(struct channel *channel) {
    say_error(channel->port, channel->id, ECANCELED, "cancelled");
    channel_close(channel);
}

static const struct channel_ops rest_channel = {.cancel = rest_cancel, .gone = rest_gone};

/*
 * A pause right after it finds nothing half done: no child half forked and, unless the flag leaves that out, no dirty page
 * and none of the work that the kernel puts off (every clone would do it again, first of all).
 */
static void handle_sync(struct port *port, const struct frame *frame, const struct fields *fields) {
    uint64_t flags = 0;
    fields_u64(fields, TAG_FLAGS, &flags);
    if ((flags & SYNC_LIGHT) != 0 || rest.channel.port != NULL || !agent.is_init) {
        answer_sync(port, frame->channel);
        return;
    }
    settle_memory();
    rest.timer.fire = rested;
    if (channel_open(port, &rest.channel, frame->channel, &rest_channel)) timer_set(&rest.timer, now_ns() + REST_NS);
}

static void handle_credit(struct channel *channel, const struct fields *fields) {
    uint64_t bytes = 0;
    if (!fields_u64(fields, TAG_BYTES, &bytes)) return;
    channel->credit = channel->credit + bytes < bytes ? UINT64_MAX : channel->credit + bytes;
    if (channel->ops->resume != NULL) channel->ops->resume(channel);
}

static handler handler_of(uint8_t type) {
    switch (type) {
        case ASK_HELLO: return handle_hello;
        case ASK_IDENTITY: return handle_identity;
        case ASK_WARM: return handle_warm;
        case ASK_SYNC: return handle_sync;
        case ASK_FREEZE: return handle_freeze;
        case ASK_THAW: return handle_thaw;
        case ASK_EXEC: return handle_exec;
        case ASK_SIGNAL: return handle_signal;
        case ASK_PROCESSES: return handle_processes;
        case ASK_ATTACH: return handle_attach;
        case ASK_STDIN: return handle_stdin;
        case ASK_RESIZE: return handle_resize;
        case ASK_GET: return handle_get;
        case ASK_PUT: return handle_put;
        case ASK_STAT: return handle_stat;
        case ASK_LIST: return handle_list;
        case ASK_MKDIR: return handle_mkdir;
        case ASK_RENAME: return handle_rename;
        case ASK_CHMOD: return handle_chmod;
        case ASK_REMOVE: return handle_remove;
        case ASK_WATCH: return handle_watch;
        case ASK_DIAL: return handle_dial;
        default: return NULL;
    }
}

/* Frames on a channel that is open; on one that has ended they are late and mean nothing. */
static bool on_channel(struct port *port, const struct frame *frame) {
    struct channel *channel = channel_find(port, frame->channel);
    struct fields fields;
    switch (frame->type) {
        case ASK_DATA:
            if (channel != NULL && channel->ops->data != NULL) channel->ops->data(channel, frame->payload, frame->length);
            return true;
        case ASK_CREDIT:
            if (channel != NULL && fields_parse(frame->payload, frame->length, &fields) == 0) handle_credit(channel, &fields);
            return true;
        case ASK_CANCEL:
            if (channel != NULL) channel->ops->cancel(channel);
            return true;
        default: return channel != NULL && frame->type != ASK_HELLO; /* an id in use takes no second request */
    }
}

void handle_frame(struct port *port, const struct frame *frame) {
    if (held_back(port, frame) || on_channel(port, frame)) return;
    if (frame->type == ASK_PING) {
        struct frame_mark mark = frame_begin(&port->out, SAY_PONG, frame->channel);
        buf_put(&port->out, frame->payload, frame->length);
        frame_end(&port->out, mark);
        return;
    }
    handler handle = handler_of(frame->type);
    struct fields fields;
    if (handle == NULL) {
        say_error(port, frame->channel, EOPNOTSUPP, "unknown request %d", frame->type);
    } else if (fields_parse(frame->payload, frame->length, &fields) != 0) {
        say_error(port, frame->channel, EBADMSG, "malformed request");
    } else {
        handle(port, frame, &fields);
    }
}
