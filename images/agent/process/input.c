/* Stdin of commands: a bounded queue of chunks, written as the pipe takes them; credit and DONE follow what was written. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "exec.h"

/* Tells whoever sent the chunk that it has been written, or why not (`code`), and frees it. */
static void settle(struct chunk *chunk, int code) {
    struct channel *mine = &chunk->owner->channel;
    if (chunk->request && chunk->channel.port != NULL) {
        if (code == 0) say(chunk->channel.port, chunk->channel.id, SAY_DONE);
        else say_error(chunk->channel.port, chunk->channel.id, code, "stdin: %s", strerror(code));
        channel_close(&chunk->channel);
    } else if (!chunk->request && mine->port != NULL && chunk->length > 0) {
        say_u64(mine->port, mine->id, SAY_CREDIT, TAG_BYTES, chunk->length);
    }
    free(chunk);
}

static struct chunk *unlink_chunk(struct input *input, struct chunk **at) {
    struct chunk *chunk = *at;
    *at = chunk->next;
    if (chunk->next == NULL) input->tail = at;
    input->queued -= chunk->length;
    return chunk;
}

static void drop_all(struct input *input, int code) {
    while (input->head != NULL) settle(unlink_chunk(input, &input->head), code);
}

/* A terminal says that it takes more when its reader has read nearly all; a reader that throws away what was typed says nothing. */
enum { TERMINAL_RETRY_NS = 200 * 1000 * 1000 };

/* Writes what the pipe takes. */
static void pump(struct input *input) {
    struct process *process = owner_of(input, struct process, input);
    while (input->head != NULL && input->source.fd >= 0) {
        struct chunk *chunk = input->head;
        while (chunk->written < chunk->length) {
            ssize_t written = write(input->source.fd, chunk->bytes + chunk->written, chunk->length - chunk->written);
            if (written < 0 && errno == EINTR) continue;
            if (written < 0 && errno == EAGAIN) {
                if (process->terminal) timer_set(&input->retry, now_ns() + TERMINAL_RETRY_NS);
                return;
            }
            if (written < 0) {
                /* Nobody reads any more. As with any pipe, the writer may go on in vain. */
                loop_close(&input->source);
                drop_all(input, EPIPE);
                return;
            }
            chunk->written += (uint32_t)written;
        }
        if (chunk->length > 0) input->line_open = memchr("\r\n", chunk->bytes[chunk->length - 1], 2) == NULL;
        settle(unlink_chunk(input, &input->head), 0);
    }
    if (!input->closing || input->head != NULL || input->source.fd < 0) return;
    if (process->terminal && !terminal_end_input(process)) timer_set(&input->retry, now_ns() + TERMINAL_RETRY_NS);
    else loop_close(&input->source);
}

static void try_again(struct timer *timer) { pump(owner_of(timer, struct input, retry)); }

static void ready(struct source *source, uint32_t events) {
    (void)events;
    pump(owner_of(source, struct input, source));
}

static void queue(struct process *process, struct chunk *chunk, const uint8_t *bytes, uint32_t length) {
    struct input *input = &process->input;
    chunk->owner = process;
    chunk->length = length;
    if (length > 0) memcpy(chunk->bytes, bytes, length);
    *input->tail = chunk;
    input->tail = &chunk->next;
    input->queued += length;
    input->closing |= chunk->closes;
    pump(input);
}

/* Nothing more can be written. A command that waits for its warm child has no pipe yet, and is to get what comes until then. */
static bool is_closed(const struct process *process) {
    bool waits = process->order != NULL && (process->order->flags & EXEC_STDIN_OPEN) != 0;
    return process->input.closing || (process->input.source.fd < 0 && !waits);
}

void input_data(struct process *process, const uint8_t *bytes, uint32_t length) {
    struct input *input = &process->input;
    if (is_closed(process)) {
        if (length > 0 && process->channel.port != NULL) {
            say_u64(process->channel.port, process->channel.id, SAY_CREDIT, TAG_BYTES, length);
        }
        return;
    }
    if (input->queued + length > STDIN_QUEUE_BYTES) {
        process_kill(process); /* beyond any credit: bytes would have to be lost, and that never silently */
        return;
    }
    struct chunk *chunk = must_alloc(sizeof *chunk + length);
    chunk->closes = length == 0;
    queue(process, chunk, bytes, length);
}

void input_open(struct process *process, int fd) {
    fcntl(fd, F_SETFL, O_NONBLOCK);
    process->input.source = (struct source){.fd = fd, .ready = ready};
    process->input.retry.fire = try_again;
    loop_watch(&process->input.source, EPOLLOUT);
}

void input_close(struct process *process) {
    timer_drop(&process->input.retry);
    loop_close(&process->input.source);
    drop_all(&process->input, EPIPE);
}

static void request_ended(struct channel *channel) {
    struct chunk *wanted = owner_of(channel, struct chunk, channel);
    struct input *input = &wanted->owner->input;
    struct chunk **at = &input->head;
    while (*at != wanted) at = &(*at)->next;
    settle(unlink_chunk(input, at), ECANCELED);
}

static const struct channel_ops request_channel = {.cancel = request_ended, .gone = request_ended};

void handle_stdin(struct port *port, const struct frame *frame, const struct fields *fields) {
    uint64_t id = 0, flags = 0;
    if (!fields_u64(fields, TAG_PROCESS, &id) || !fields_optional_u64(fields, TAG_FLAGS, &flags)) {
        say_error(port, frame->channel, EINVAL, "stdin: malformed request");
        return;
    }
    struct process *process = process_find(id);
    const struct field *content = &fields->known[TAG_CODE];
    if (process == NULL || process->finished) {
        say_error(port, frame->channel, ESRCH, "no running command %llu", (unsigned long long)id);
    } else if (is_closed(process)) {
        say_error(port, frame->channel, EPIPE, "the command's stdin is closed");
    } else if (process->input.queued + content->length > STDIN_QUEUE_BYTES) {
        say_error(port, frame->channel, ENOBUFS, "too much is waiting for the command's stdin");
    } else {
        struct chunk *chunk = must_alloc(sizeof *chunk + content->length);
        chunk->request = true;
        chunk->closes = (flags & 1) != 0;
        if (!channel_open(port, &chunk->channel, frame->channel, &request_channel)) {
            free(chunk);
            return;
        }
        queue(process, chunk, content->bytes, content->length);
    }
}
