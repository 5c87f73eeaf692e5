/* Finding, reading and writing ports; see port.h. */
#define _GNU_SOURCE
#include "port.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { IN_BYTES = 2 * (HEADER_BYTES + FRAME_BYTES), RESYNC_ZEROS = 2 * HEADER_BYTES, ERROR_TEXT_BYTES = 4096 };

/* How long a port has to be hung up until its host is taken for gone; and when a host has just greeted over it. */
static const uint64_t GONE_NS = 100u * 1000 * 1000, WELCOME_NS = 3000u * 1000 * 1000;

static struct port *ports[PORTS_MAX];

bool channel_open(struct port *port, struct channel *channel, uint32_t id, const struct channel_ops *ops) {
    if (port->channels >= CHANNELS_MAX || channel_find(port, id) != NULL) return false;
    struct channel **bucket = &port->buckets[id % CHANNEL_BUCKETS];
    *channel = (struct channel){.next = *bucket, .port = port, .ops = ops, .id = id, .credit = WINDOW_BYTES};
    *bucket = channel;
    port->channels++;
    return true;
}

struct channel *channel_find(struct port *port, uint32_t id) {
    struct channel *channel = port->buckets[id % CHANNEL_BUCKETS];
    while (channel != NULL && channel->id != id) channel = channel->next;
    return channel;
}

void channel_close(struct channel *channel) {
    if (channel->port == NULL) return;
    struct channel **at = &channel->port->buckets[channel->id % CHANNEL_BUCKETS];
    while (*at != channel) at = &(*at)->next;
    *at = channel->next;
    channel->port->channels--;
    channel->port = NULL;
}

bool channel_room(struct channel *channel) {
    if (buf_used(&channel->port->out) < OUT_SOFT_BYTES) return true;
    channel->port->starved = true;
    return false;
}

uint32_t channel_allowance(struct channel *channel, uint64_t wanted) {
    if (channel->credit == 0 || !channel_room(channel)) return 0;
    if (wanted > channel->credit) wanted = channel->credit;
    return wanted > FRAME_BYTES ? FRAME_BYTES : (uint32_t)wanted;
}

void say(struct port *port, uint32_t channel, uint8_t type) {
    frame_end(&port->out, frame_begin(&port->out, type, channel));
}

void say_u64(struct port *port, uint32_t channel, uint8_t type, uint8_t tag, uint64_t value) {
    struct frame_mark mark = frame_begin(&port->out, type, channel);
    put_u64(&port->out, tag, value);
    frame_end(&port->out, mark);
}

void say_error(struct port *port, uint32_t channel, int code, const char *format, ...) {
    char text[ERROR_TEXT_BYTES];
    va_list rest;
    va_start(rest, format);
    int length = vsnprintf(text, sizeof text, format, rest);
    va_end(rest);
    if (length < 0) length = 0;
    if (length >= ERROR_TEXT_BYTES) length = ERROR_TEXT_BYTES - 1;
    struct frame_mark mark = frame_begin(&port->out, SAY_ERROR, channel);
    put_u64(&port->out, TAG_ERRNO, (uint64_t)code);
    put_bytes(&port->out, TAG_TEXT, text, (uint32_t)length);
    frame_end(&port->out, mark);
}

/* Ends every channel as if the host had gone. */
static void drop_channels(struct port *port) {
    for (int i = 0; i < CHANNEL_BUCKETS; i++) {
        while (port->buckets[i] != NULL) {
            struct channel *channel = port->buckets[i];
            channel_close(channel);
            channel->ops->gone(channel);
        }
    }
}

/* Ends every channel and forgets what has not been sent, but for the rest of a frame already begun. */
static void port_restart(struct port *port) {
    drop_channels(port);
    port->greetings++;
    port->out.end = port->out.start + port->head_left;
    port->starved = false;
}

static void hang_up(struct port *port) {
    port->head_left = 0;
    port_restart(port);
    buf_free(&port->out);
    port->fill = 0;
    port->state = AT_FRAME;
    if (port->socket) loop_stop();
}

/*
 * That a host has gone, and that one has come, travels beside the data and may be later than it: a restored guest reads the
 * greeting of its new host before it hears that the one it was saved under is gone. So only a port that stays hung up has
 * lost its host; a new one is known by its greeting anyway. News that it has come may be long on the way where the CPU is
 * short: the kernel's worker that brings them runs after this process.
 */
static void check_gone(struct timer *timer) {
    struct port *port = owner_of(timer, struct port, gone);
    struct pollfd now = {.fd = port->source.fd};
    if (poll(&now, 1, 0) == 1 && (now.revents & POLLHUP) != 0) hang_up(port);
    port->welcome = false;
}

void port_welcome(struct port *port) {
    timer_drop(&port->gone);
    port->welcome = true;
    port_restart(port);
}

/* Keeps `head_left` at what is left of the frame that the written bytes end in. */
static void count_written(struct port *port, size_t written) {
    while (written > 0) {
        if (port->head_left == 0) port->head_left = HEADER_BYTES + load_u32(port->out.data + port->out.start);
        size_t part = written < port->head_left ? written : port->head_left;
        port->head_left -= part;
        written -= part;
        buf_drop(&port->out, part);
    }
}

static void flush(struct port *port) {
    while (buf_used(&port->out) > 0) {
        ssize_t written = write(port->source.fd, port->out.data + port->out.start, buf_used(&port->out));
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) break; /* EAGAIN: EPOLLOUT follows. A host that has gone shows when reading. */
        count_written(port, (size_t)written);
    }
    size_t left = buf_used(&port->out);
    if (port->reading && left < OUT_HARD_BYTES) task_queue(&port->reader);
    if (!port->starved || left >= OUT_SOFT_BYTES) return;
    port->starved = false;
    for (int i = 0; i < CHANNEL_BUCKETS; i++) {
        for (struct channel *channel = port->buckets[i]; channel != NULL; channel = channel->next) {
            if (channel->ops->resume != NULL) channel->ops->resume(channel);
        }
    }
}

void ports_flush(void) {
    for (int i = 0; i < PORTS_MAX; i++) {
        if (ports[i] != NULL) flush(ports[i]);
    }
}

/* Skips padding and, when lost, everything up to it; returns the bytes skipped. */
static size_t skip(struct port *port, const uint8_t *bytes, size_t length) {
    size_t at = 0;
    while (at < length && port->state != AT_FRAME) {
        bool zero = bytes[at] == 0;
        if (port->state == IN_PADDING && !zero) {
            port->state = AT_FRAME;
            break;
        }
        port->zeros = zero ? port->zeros + 1 : 0;
        if (port->state == LOST && port->zeros >= RESYNC_ZEROS) port->state = IN_PADDING;
        at++;
    }
    return at;
}

/* Takes one frame off the front of `bytes`; 0 when there is none yet. */
static size_t take_frame(struct port *port, const uint8_t *bytes, size_t length) {
    struct frame frame;
    if (port->state != AT_FRAME) {
        size_t skipped = skip(port, bytes, length);
        if (skipped > 0 || port->state != AT_FRAME) return skipped;
    }
    if (length < HEADER_BYTES) return 0;
    if (frame_header(bytes, &frame) != 0) {
        port->state = LOST;
        port->zeros = 0;
        return HEADER_BYTES;
    }
    if (length - HEADER_BYTES < frame.length) return 0;
    frame.payload = bytes + HEADER_BYTES;
    if (frame.type == ASK_PADDING && frame.length == 0 && frame.channel == 0) {
        port->state = IN_PADDING;
    } else {
        handle_frame(port, &frame);
    }
    return HEADER_BYTES + frame.length;
}

static void take_frames(struct port *port) {
    size_t at = 0, took;
    do {
        took = take_frame(port, port->in + at, port->fill - at);
        at += took;
    } while (took > 0 && at < port->fill);
    port->fill -= at;
    memmove(port->in, port->in + at, port->fill);
}

static bool read_some(struct task *task) {
    struct port *port = owner_of(task, struct port, reader);
    if (buf_used(&port->out) >= OUT_HARD_BYTES) return false; /* `flush` queues it again */
    ssize_t got = read(port->source.fd, port->in + port->fill, IN_BYTES - port->fill);
    if (got < 0) {
        if (errno == EINTR) return true;
        port->reading = false;
        port->welcome = false;
        if (errno != EAGAIN) hang_up(port);
        return false;
    }
    if (got == 0) {
        port->reading = false;
        if (port->socket) hang_up(port);
        else if (port->gone.at_ns == 0) timer_set(&port->gone, now_ns() + (port->welcome ? WELCOME_NS : GONE_NS));
        return false;
    }
    port->fill += (size_t)got;
    take_frames(port);
    return true;
}

static void port_ready(struct source *source, uint32_t events) {
    struct port *port = owner_of(source, struct port, source);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return; /* EPOLLOUT: the flush before the next wait sees to it */
    port->reading = true;
    task_queue(&port->reader);
}

static struct port *port_new(int fd) {
    struct port *port = must_alloc(sizeof *port);
    port->in = must_alloc(IN_BYTES);
    port->source = (struct source){.fd = fd, .ready = port_ready};
    port->reader.run = read_some;
    port->gone.fire = check_gone;
    port->reading = true;
    loop_watch(&port->source, EPOLLIN | EPOLLOUT);
    task_queue(&port->reader);
    return port;
}

void port_adopt(int fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    ports[0] = port_new(fd);
    ports[0]->socket = true;
}

/* The number in /sys/class/virtio-ports/NAME/name when that says agent0..agent3, else -1. */
static int agent_index(const char *name) {
    char path[300], text[32] = "";
    snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length < 6 || memcmp(text, "agent", 5) != 0) return -1;
    int index = text[5] - '0';
    return index >= 0 && index < PORTS_MAX && (text[6] == '\n' || text[6] == 0) ? index : -1;
}

int ports_scan(void) {
    DIR *dir = opendir("/sys/class/virtio-ports");
    int open_count = 0;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        int index = entry->d_name[0] == '.' ? -1 : agent_index(entry->d_name);
        if (index < 0 || ports[index] != NULL) continue;
        char path[300];
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0) ports[index] = port_new(fd);
    }
    if (dir != NULL) closedir(dir);
    for (int i = 0; i < PORTS_MAX; i++) open_count += ports[i] != NULL;
    return open_count;
}
