/* Looking at commands from any channel: the list, signals, and following a background one's output from its ring. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "process.h"

enum { RECORD_FIXED_BYTES = 8 + 4 + 1 + 4 + 1 + 2 };

static void unlink_attach(struct attach *attach) {
    struct attach **at = &attach->process->attachers;
    while (*at != attach) at = &(*at)->next;
    *at = attach->next;
    task_drop(&attach->pump);
    free(attach);
}

static void resume(struct channel *channel) { task_queue(&owner_of(channel, struct attach, channel)->pump); }

static void gone(struct channel *channel) { unlink_attach(owner_of(channel, struct attach, channel)); }

static void cancel(struct channel *channel) {
    say_error(channel->port, channel->id, ECANCELED, "cancelled");
    channel_close(channel);
    gone(channel);
}

static const struct channel_ops attach_channel = {.resume = resume, .cancel = cancel, .gone = gone};

static void send_item(struct attach *attach, const struct ring_item *item, uint32_t length) {
    struct buf *out = &attach->channel.port->out;
    struct frame_mark mark = frame_begin(out, item->type, attach->channel.id);
    uint32_t first = item->part_lengths[0] < length ? item->part_lengths[0] : length;
    buf_put(out, item->parts[0], first);
    buf_put(out, item->parts[1], length - first);
    frame_end(out, mark);
    attach->channel.credit -= length;
    ring_advance(&attach->cursor, item, length);
}

static bool pump(struct task *task) {
    struct attach *attach = owner_of(task, struct attach, pump);
    struct process *process = attach->process;
    struct port *port = attach->channel.port;
    uint64_t missed = ring_missed(&process->ring, &attach->cursor);
    if (missed > 0) say_u64(port, attach->channel.id, SAY_GAP, TAG_BYTES, missed);
    struct ring_item item;
    if (ring_peek(&process->ring, &attach->cursor, &item)) {
        uint32_t allowed = channel_allowance(&attach->channel, item.length);
        if (allowed == 0) return false;
        send_item(attach, &item, allowed);
        return true;
    }
    if (!process->finished) return false;
    say_exit(port, attach->channel.id, process);
    channel_close(&attach->channel);
    unlink_attach(attach);
    return false;
}

void attachers_wake(struct process *process) {
    for (struct attach *attach = process->attachers; attach != NULL; attach = attach->next) task_queue(&attach->pump);
}

void attachers_end(struct process *process) {
    while (process->attachers != NULL) {
        struct channel *channel = &process->attachers->channel;
        say_error(channel->port, channel->id, ESRCH, "the command has been forgotten");
        channel_close(channel);
        gone(channel);
    }
}

void handle_attach(struct port *port, const struct frame *frame, const struct fields *fields) {
    uint64_t id = 0;
    struct process *process = fields_u64(fields, TAG_PROCESS, &id) ? process_find(id) : NULL;
    if (process == NULL) {
        say_error(port, frame->channel, ESRCH, "no command %llu", (unsigned long long)id);
        return;
    }
    if (!process->background) {
        say_error(port, frame->channel, EINVAL, "command %llu is not in the background", (unsigned long long)id);
        return;
    }
    struct attach *attach = must_alloc(sizeof *attach);
    if (!channel_open(port, &attach->channel, frame->channel, &attach_channel)) {
        free(attach);
        return;
    }
    attach->process = process;
    attach->pump.run = pump;
    attach->next = process->attachers;
    process->attachers = attach;
    say_started(port, frame->channel, process);
    task_queue(&attach->pump);
}

static void put_record(struct buf *out, const struct process *process) {
    uint32_t length = RECORD_FIXED_BYTES + process->command_length;
    uint8_t *at = buf_room(out, 4 + length);
    bool signalled = process->exited && WIFSIGNALED(process->status);
    int code = !process->exited ? 0 : signalled ? -1 : WEXITSTATUS(process->status);
    store_u32(at, length);
    store_u64(at + 4, process->id);
    store_u32(at + 12, (uint32_t)process->pid);
    at[16] = (uint8_t)((process->background ? 1 : 0) | (process->exited ? 0 : 2));
    store_u32(at + 17, (uint32_t)code);
    at[21] = signalled ? (uint8_t)WTERMSIG(process->status) : 0;
    store_u16(at + 22, process->command_length);
    memcpy(at + 24, process->command, process->command_length);
    out->end += 4 + length;
}

void handle_processes(struct port *port, const struct frame *frame, const struct fields *fields) {
    (void)fields;
    struct buf *out = &port->out;
    struct frame_mark mark = frame_begin(out, SAY_CHUNK, frame->channel);
    size_t begin = buf_used(out);
    for (const struct process *process = processes; process != NULL; process = process->next) {
        if (buf_used(out) - begin + 4 + RECORD_FIXED_BYTES + process->command_length > FRAME_BYTES) {
            frame_end(out, mark);
            mark = frame_begin(out, SAY_CHUNK, frame->channel);
            begin = buf_used(out);
        }
        put_record(out, process);
    }
    if (buf_used(out) == begin) frame_undo(out, mark);
    else frame_end(out, mark);
    say(port, frame->channel, SAY_DONE);
}

void handle_signal(struct port *port, const struct frame *frame, const struct fields *fields) {
    uint64_t id = 0, number = 0;
    if (!fields_u64(fields, TAG_PROCESS, &id) || !fields_u64(fields, TAG_SIGNAL, &number) || number == 0 || number > 64) {
        say_error(port, frame->channel, EINVAL, "signal: malformed request");
        return;
    }
    struct process *process = process_find(id);
    if (process == NULL || process->exited || process->pid == 0) {
        say_error(port, frame->channel, ESRCH, "no running command %llu", (unsigned long long)id);
        return;
    }
    cgroup_signal(&process->cgroup, process->pid, (int)number);
    say(port, frame->channel, SAY_DONE);
}
