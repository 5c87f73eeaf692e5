/*
 * Output of commands: from pipes to a channel, a ring or nowhere. A pipe is read only when what comes out can go on, so the
 * kernel's pipe is the one buffer; what nobody wants is dropped without being copied.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "process.h"

/* A terminal holds 12 KiB at most: 8 on their way and 4 that wait to be read. */
enum { TERMINAL_HELD_BYTES = 64 * 1024 };

enum { DROPPED_PER_TURN = 1024 * 1024, RING_READ_BYTES = 16 * 1024, LEFTOVERS_MAX = 256 };

/* A pipe that outlives its command: a daemon writes to it, and must not die of that. */
struct leftover {
    struct leftover *next;
    struct source source;
    struct task drain;
};

static struct leftover *leftovers; /* newest first */
static int leftover_count;

/* Drops up to `wanted` bytes; as read(2) otherwise. */
static ssize_t drop(int fd, uint64_t wanted) {
    size_t length = wanted > DROPPED_PER_TURN ? DROPPED_PER_TURN : (size_t)wanted;
    return splice(fd, NULL, agent.null_fd, NULL, length, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
}

void stream_ready(struct source *source, uint32_t events) {
    struct stream *stream = owner_of(source, struct stream, source);
    stream->readable = true;
    if (events & EPOLLHUP) stream->hung_up = true;
    task_queue(&stream->owner->pump);
}

void stream_open(struct stream *stream, int fd) {
    fcntl(fd, F_SETFL, O_NONBLOCK);
    stream->source = (struct source){.fd = fd, .ready = stream_ready};
    loop_watch(&stream->source, EPOLLIN);
}

static void leftover_end(struct leftover *leftover) {
    struct leftover **at = &leftovers;
    while (*at != leftover) at = &(*at)->next;
    *at = leftover->next;
    leftover_count--;
    task_drop(&leftover->drain);
    loop_close(&leftover->source);
    free(leftover);
}

static bool leftover_drain(struct task *task) {
    struct leftover *leftover = owner_of(task, struct leftover, drain);
    ssize_t dropped = drop(leftover->source.fd, DROPPED_PER_TURN);
    if (dropped > 0) return true;
    if (dropped == 0 || errno != EAGAIN) leftover_end(leftover);
    return false;
}

static void leftover_ready(struct source *source, uint32_t events) {
    (void)events;
    task_queue(&owner_of(source, struct leftover, source)->drain);
}

static void leave(int fd) {
    if (leftover_count >= LEFTOVERS_MAX) {
        struct leftover *oldest = leftovers;
        while (oldest->next != NULL) oldest = oldest->next;
        leftover_end(oldest);
    }
    struct leftover *leftover = must_alloc(sizeof *leftover);
    leftover->next = leftovers;
    leftovers = leftover;
    leftover_count++;
    leftover->source = (struct source){.fd = fd, .ready = leftover_ready};
    leftover->drain.run = leftover_drain;
    loop_watch(&leftover->source, EPOLLIN);
    task_queue(&leftover->drain);
}

void leftovers_end(void) {
    while (leftovers != NULL) leftover_end(leftovers);
}

/* Takes note of what a read from the pipe returned; true when there may be more. A terminal that nobody has open may be opened again. */
static bool account(struct stream *stream, ssize_t got) {
    if (got > 0) {
        stream->counted += (uint64_t)got;
        if (stream->owner->exited) stream->drain -= (uint64_t)got;
        return true;
    }
    if (got < 0 && errno == EINTR) return true;
    stream->readable = false;
    if ((got == 0 || errno != EAGAIN) && !stream->owner->terminal) loop_close(&stream->source);
    return false;
}

/* What has been read, on its way: a frame takes only the room that its bytes need. */
static uint8_t scratch[FRAME_BYTES];

static bool to_ring(struct stream *stream, uint64_t wanted) {
    ssize_t got = read(stream->source.fd, scratch, wanted < RING_READ_BYTES ? (size_t)wanted : RING_READ_BYTES);
    if (got > 0) {
        ring_put(&stream->owner->ring, stream->type, scratch, (uint32_t)got);
        attachers_wake(stream->owner);
    }
    return account(stream, got);
}

static bool to_channel(struct stream *stream, uint64_t wanted) {
    struct channel *channel = &stream->owner->channel;
    uint32_t allowed = channel_allowance(channel, wanted < stream->left ? wanted : stream->left);
    if (allowed == 0) return false; /* `resume` queues the pump again */
    ssize_t got = read(stream->source.fd, scratch, allowed);
    if (got > 0) {
        struct buf *out = &channel->port->out;
        struct frame_mark mark = frame_begin(out, stream->type, channel->id);
        buf_put(out, scratch, (size_t)got);
        frame_end(out, mark);
        channel->credit -= (uint64_t)got;
        stream->left -= (uint64_t)got;
    }
    return account(stream, got);
}

static bool drained(const struct stream *stream) {
    return stream->source.fd < 0 || (stream->owner->exited && (stream->drain == 0 || !stream->readable));
}

static bool pump(struct stream *stream) {
    struct process *process = stream->owner;
    if (stream->source.fd < 0 || !stream->readable) return false;
    uint64_t wanted = process->exited ? stream->drain : UINT64_MAX;
    if (wanted == 0) return false;
    if (process->background) return to_ring(stream, wanted);
    if (!process->discard && stream->left > 0) return to_channel(stream, wanted);
    ssize_t dropped = process->terminal ? read(stream->source.fd, scratch, wanted < FRAME_BYTES ? (size_t)wanted : FRAME_BYTES)
                                        : drop(stream->source.fd, wanted);
    if (dropped > 0) stream->cut = true;
    return account(stream, dropped);
}

bool streams_pump(struct task *task) {
    struct process *process = owner_of(task, struct process, pump);
    if (process->finished) return false;
    bool more = pump(&process->streams[0]);
    more |= pump(&process->streams[1]);
    bool over = process->discard || (drained(&process->streams[0]) && drained(&process->streams[1]));
    if (!process->exited || !over) return more;
    process_finish(process);
    return false;
}

void streams_measure(struct process *process) {
    for (int i = 0; i < 2; i++) {
        struct stream *stream = &process->streams[i];
        int held = process->terminal ? TERMINAL_HELD_BYTES : 0;
        if (!process->terminal && stream->source.fd >= 0) ioctl(stream->source.fd, FIONREAD, &held);
        stream->drain = held > 0 ? (uint64_t)held : 0;
        stream->readable = stream->drain > 0;
    }
}

void streams_close(struct process *process) {
    for (int i = 0; i < 2; i++) {
        struct source *source = &process->streams[i].source;
        if (source->fd < 0) continue;
        if (process->terminal) {
            loop_close(source); /* whoever has it open hears that it has hung up */
            continue;
        }
        loop_forget(source);
        /* At its end already, in most cases: only a daemon left behind holds the other side open. */
        if (process->streams[i].hung_up || drop(source->fd, DROPPED_PER_TURN) == 0) close(source->fd);
        else leave(source->fd);
        source->fd = -1;
    }
}
