/*
 * TCP connections to this guest's own ports on behalf of the host, see dial.h. What the peer does not take is held here, at most
 * one window of it, as the host is granted only what the peer has taken; what the host does not take stays in the socket.
 */
#define _GNU_SOURCE
#include "dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* A backlog that is full leaves the kernel trying again for minutes. */
#define CONNECT_NS 10000000000u

/* Taken bytes are granted again in steps, so that a stream costs few CREDIT frames. */
enum { GRANT_STEP_BYTES = WINDOW_BYTES / 4, HOST_BYTES = 16 };

enum family { LOOPBACK_4, LOOPBACK_6 };

struct dial {
    struct channel channel;
    struct source source;
    struct task pump;
    struct timer late;
    struct buf held; /* from the host, not yet taken by the peer */
    uint64_t owed;   /* taken by the peer, not yet granted again */
    uint16_t port;
    enum family now, last; /* the address being tried, and the last to try */
    bool connected;
    bool host_ended; /* no more DATA comes */
    bool shut;       /* and the peer knows */
    bool peer_ended;
    bool deaf;   /* the peer takes nothing any more: DATA is dropped */
    int failure; /* why, when that was no ordinary end */
};

static const char *const HOSTS[] = {[LOOPBACK_4] = "127.0.0.1", [LOOPBACK_6] = "::1"};

static void dial_free(struct dial *dial) {
    task_drop(&dial->pump);
    timer_drop(&dial->late);
    loop_close(&dial->source);
    buf_free(&dial->held);
    free(dial);
}

/* Closing says "reset" to the peer, not "end": what it has is not all. */
static void dial_reset(struct dial *dial) {
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    if (dial->source.fd >= 0) setsockopt(dial->source.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    dial_free(dial);
}

static void dial_fails(struct dial *dial, int code) {
    struct channel *channel = &dial->channel;
    say_error(channel->port, channel->id, code, "port %u: %s", dial->port, strerror(code));
    channel_close(channel);
    dial_reset(dial);
}

/* True when both directions are over: the last answer is said, and the dial is gone. */
static bool dial_over(struct dial *dial) {
    struct channel *channel = &dial->channel;
    if (!dial->peer_ended || !(dial->shut || dial->deaf)) return false;
    say(channel->port, channel->id, SAY_DONE);
    channel_close(channel);
    dial_free(dial);
    return true;
}

static void grant(struct dial *dial, uint64_t bytes) {
    dial->owed += bytes;
    if (dial->owed < GRANT_STEP_BYTES) return;
    say_u64(dial->channel.port, dial->channel.id, SAY_CREDIT, TAG_BYTES, dial->owed);
    dial->owed = 0;
}

/* What the socket takes of these bytes, and all of them once nobody reads. */
static uint32_t give(struct dial *dial, const uint8_t *bytes, size_t length) {
    size_t given = 0;
    while (given < length && !dial->deaf) {
        ssize_t sent = send(dial->source.fd, bytes + given, length - given, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno == EAGAIN) break;
        if (sent < 0) {
            /* What it has said before is still there to be read, and so is how it ended. */
            dial->deaf = true;
            if (errno != EPIPE) dial->failure = errno;
            task_queue(&dial->pump);
        } else {
            given += (size_t)sent;
        }
    }
    if (dial->deaf) given = length;
    grant(dial, given);
    return (uint32_t)given;
}

/* Gives the peer what is held, then the end if the host has ended. True when the dial is gone. */
static bool pour(struct dial *dial) {
    size_t used = buf_used(&dial->held);
    if (used > 0) buf_drop(&dial->held, give(dial, dial->held.data + dial->held.start, used));
    if (!dial->host_ended || buf_used(&dial->held) > 0 || dial->shut) return false;
    shutdown(dial->source.fd, SHUT_WR);
    dial->shut = true;
    return dial_over(dial);
}

static void dial_data(struct channel *channel, const uint8_t *bytes, uint32_t length) {
    struct dial *dial = owner_of(channel, struct dial, channel);
    if (dial->host_ended) return;
    if (length == 0) {
        dial->host_ended = true;
        if (dial->connected) pour(dial);
        return;
    }
    if (buf_used(&dial->held) + length > WINDOW_BYTES) {
        dial_fails(dial, EPROTO);
        return;
    }
    uint32_t given = dial->connected && buf_used(&dial->held) == 0 ? give(dial, bytes, length) : 0;
    buf_put(&dial->held, bytes + given, length - given);
}

/* Nothing more comes from the peer. Always false: the task is over. */
static bool peer_ends(struct dial *dial, int code) {
    if (code == 0) code = dial->failure;
    if (code != 0) {
        dial_fails(dial, code);
        return false;
    }
    dial->peer_ended = true;
    say(dial->channel.port, dial->channel.id, SAY_SHUT);
    dial_over(dial);
    return false;
}

static bool dial_pump(struct task *task) {
    struct dial *dial = owner_of(task, struct dial, pump);
    if (!dial->connected || dial->peer_ended) return false;
    uint32_t allowed = channel_allowance(&dial->channel, FRAME_BYTES);
    if (allowed == 0) return false;
    struct buf *out = &dial->channel.port->out;
    struct frame_mark mark = frame_begin(out, SAY_OUT, dial->channel.id);
    ssize_t got = read(dial->source.fd, buf_room(out, allowed), allowed);
    if (got <= 0) {
        int code = got < 0 ? errno : 0;
        frame_undo(out, mark);
        if (code == EINTR) return true;
        return code == EAGAIN ? false : peer_ends(dial, code);
    }
    out->end += (size_t)got;
    frame_end(out, mark);
    dial->channel.credit -= (uint64_t)got;
    return true;
}

static void dial_resume(struct channel *channel) { task_queue(&owner_of(channel, struct dial, channel)->pump); }

static void dial_gone(struct channel *channel) { dial_reset(owner_of(channel, struct dial, channel)); }

static void dial_cancel(struct channel *channel) { dial_fails(owner_of(channel, struct dial, channel), ECANCELED); }

static const struct channel_ops dial_channel = {
    .data = dial_data, .resume = dial_resume, .cancel = dial_cancel, .gone = dial_gone};

static void begin(struct dial *dial) {
    struct channel *channel = &dial->channel;
    const int on = 1;
    timer_drop(&dial->late);
    setsockopt(dial->source.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* the host's client decides what goes together */
    dial->connected = true;
    say(channel->port, channel->id, SAY_STARTED);
    say_u64(channel->port, channel->id, SAY_CREDIT, TAG_BYTES, WINDOW_BYTES);
    task_queue(&dial->pump);
    pour(dial);
}

/* Connects to the address of its turn; 0, EINPROGRESS or what is wrong. */
static int start(struct dial *dial) {
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(dial->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(dial->port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool is_four = dial->now == LOOPBACK_4;
    dial->source.fd = socket(is_four ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (dial->source.fd < 0) return errno;
    int done = is_four ? connect(dial->source.fd, (const struct sockaddr *)&four, sizeof four)
                       : connect(dial->source.fd, (const struct sockaddr *)&six, sizeof six);
    int code = done == 0 ? 0 : errno;
    /* After connect: a socket that is not connecting reports that it is hung up. */
    if ((code == 0 || code == EINPROGRESS) && loop_watch(&dial->source, EPOLLIN | EPOLLOUT) != 0) code = errno;
    return code;
}

/* Goes on with what came of an attempt: the first failure is the one that is told, as most programs listen on 127.0.0.1. */
static void advance(struct dial *dial, int code) {
    int first = code;
    while (code != 0 && code != EINPROGRESS) {
        loop_close(&dial->source);
        if (dial->now == dial->last) {
            dial_fails(dial, dial->failure != 0 ? dial->failure : first);
            return;
        }
        dial->failure = first;
        dial->now = LOOPBACK_6;
        code = start(dial);
    }
    if (code != 0) return;
    dial->failure = 0;
    begin(dial);
}

static void dial_ready(struct source *source, uint32_t events) {
    struct dial *dial = owner_of(source, struct dial, source);
    if (dial->connected) {
        if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) task_queue(&dial->pump);
        if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) pour(dial);
        return;
    }
    int code = 0;
    socklen_t length = sizeof code;
    getsockopt(source->fd, SOL_SOCKET, SO_ERROR, &code, &length);
    if (code == 0 && (events & EPOLLOUT) == 0) return;
    advance(dial, code);
}

static void dial_late(struct timer *timer) { dial_fails(owner_of(timer, struct dial, late), ETIMEDOUT); }

/* Which addresses are to be tried; false when HOST is something else. */
static bool take_hosts(const struct fields *fields, struct dial *dial) {
    char host[HOST_BYTES];
    dial->now = LOOPBACK_4;
    dial->last = LOOPBACK_6;
    if (!fields_has(fields, TAG_HOST)) return true;
    if (!fields_text(fields, TAG_HOST, host, sizeof host)) return false;
    for (enum family family = LOOPBACK_4; family <= LOOPBACK_6; family++) {
        if (strcmp(host, HOSTS[family]) != 0) continue;
        dial->now = dial->last = family;
        return true;
    }
    return false;
}

void handle_dial(struct port *port, const struct frame *frame, const struct fields *fields) {
    struct dial *dial = must_alloc(sizeof *dial);
    uint64_t number = 0;
    if (!fields_u64(fields, TAG_PORT, &number) || number == 0 || number > UINT16_MAX || !take_hosts(fields, dial)) {
        say_error(port, frame->channel, EINVAL, "a port from 1 to 65535 of 127.0.0.1 or ::1");
        free(dial);
        return;
    }
    if (!channel_open(port, &dial->channel, frame->channel, &dial_channel)) {
        say_error(port, frame->channel, EBUSY, "too many requests at once");
        free(dial);
        return;
    }
    dial->port = (uint16_t)number;
    dial->source = (struct source){.fd = -1, .ready = dial_ready};
    dial->pump.run = dial_pump;
    dial->late.fire = dial_late;
    timer_set(&dial->late, now_ns() + CONNECT_NS);
    advance(dial, start(dial));
}
