/* Requests that write, put aside while the disks are frozen: a write of PID 1 there would wait, and THAW with it. See freeze.h. */
#define _GNU_SOURCE
#include "freeze.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../file/file.h"

/* More than this while the host copies a disk is no ordinary load: thawing comes first then. */
enum { HELD_BYTES_MAX = 4 * 1024 * 1024 };

struct held {
    struct held *next;
    struct port *port; /* NULL: cancelled */
    uint32_t greetings; /* of the port, when it came: a new host has nothing to do with it */
    struct frame frame;
    uint8_t payload[];
};

static struct held *first, **last = &first;
static size_t held_bytes;

static bool writes(struct port *port, const struct frame *frame) {
    struct fields fields;
    switch (frame->type) {
        case ASK_SYNC:
        case ASK_PUT:
        case ASK_MKDIR:
        case ASK_RENAME:
        case ASK_CHMOD:
        case ASK_REMOVE: return true;
        case ASK_EXEC:
            return fields_parse(frame->payload, frame->length, &fields) == 0 && fields_has(&fields, TAG_CODE);
        case ASK_DATA: return is_writing(channel_find(port, frame->channel));
        default: return false;
    }
}

/* The request on this channel that waits here, or NULL. */
static struct held *find(const struct port *port, uint32_t channel) {
    for (struct held *at = first; at != NULL; at = at->next) {
        if (at->port == port && at->greetings == port->greetings && at->frame.channel == channel &&
            at->frame.type != ASK_DATA) {
            return at;
        }
    }
    return NULL;
}

bool held_back(struct port *port, const struct frame *frame) {
    if (!freeze_active()) return false;
    if (frame->type == ASK_CANCEL) {
        struct held *held = find(port, frame->channel);
        if (held == NULL) return false;
        held->port = NULL;
        say_error(port, frame->channel, ECANCELED, "cancelled");
        return true;
    }
    if (!writes(port, frame)) return false;
    struct held *held = must_alloc(sizeof *held + frame->length);
    *held = (struct held){.port = port, .greetings = port->greetings, .frame = *frame};
    memcpy(held->payload, frame->payload, frame->length);
    held->frame.payload = held->payload;
    *last = held;
    last = &held->next;
    held_bytes += sizeof *held + frame->length;
    if (held_bytes > HELD_BYTES_MAX) freeze_end();
    return true;
}

void held_release(void) {
    while (first != NULL && !freeze_active()) {
        struct held *held = first;
        first = held->next;
        if (first == NULL) last = &first;
        held_bytes -= sizeof *held + held->frame.length;
        if (held->port != NULL && held->greetings == held->port->greetings) handle_frame(held->port, &held->frame);
        free(held);
    }
}
