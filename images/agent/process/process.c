/* The life of a command: started, reaped, drained, reported, forgotten. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exec.h"
#include "../freeze/freeze.h"
#include "../warm/warm.h"

enum { REAPED_PER_TURN = 128 };

struct process *processes; /* newest first */
static uint64_t last_id;
static int background_count, foreground_count;

struct process *process_find(uint64_t id) {
    struct process *process = processes;
    while (process != NULL && process->id != id) process = process->next;
    return process;
}

void process_discard(struct process *process) {
    for (int i = 0; i < 2; i++) loop_close(&process->streams[i].source);
    input_close(process);
    cgroup_release(&process->cgroup);
    order_free(process->order);
    ring_clear(&process->ring);
    task_drop(&process->pump);
    timer_drop(&process->timeout);
    free(process);
}

/* Its descriptor, no longer watched and no longer its own. */
static int surrender(struct source *source) {
    int fd = source->fd;
    loop_forget(source);
    source->fd = -1;
    return fd;
}

void process_adopt(struct process *process, struct process *other) {
    for (int i = 0; i < 2; i++) stream_open(&process->streams[i], surrender(&other->streams[i].source));
    input_open(process, surrender(&other->input.source));
    process->cgroup = other->cgroup;
    process->pid = other->pid;
    other->cgroup.fd = -1;
    process_discard(other);
}

static void forget(struct process *process) {
    struct process **at = &processes;
    while (*at != process) at = &(*at)->next;
    *at = process->next;
    if (process->background) background_count--;
    else foreground_count--;
    attachers_end(process);
    process_discard(process);
}

static struct process *oldest_finished(bool with_ring) {
    struct process *oldest = NULL;
    for (struct process *at = processes; at != NULL; at = at->next) {
        if (at->finished && (!with_ring || at->ring.capacity > 0)) oldest = at;
    }
    return oldest;
}

static void time_is_up(struct timer *timer) {
    struct process *process = owner_of(timer, struct process, timeout);
    process->timed_out = true;
    process_kill(process);
    /* It never began, so no end of it will be reaped. */
    if (process->pid == 0) process_failed(process, ETIMEDOUT, "timed out before it could start");
}

struct process *process_allocate(void) {
    struct process *process = must_alloc(sizeof *process);
    process->cgroup.fd = -1;
    process->input.source.fd = -1;
    process->input.tail = &process->input.head;
    process->pump.run = streams_pump;
    process->timeout.fire = time_is_up;
    for (int i = 0; i < 2; i++) {
        process->streams[i] = (struct stream){.source = {.fd = -1}, .owner = process, .type = (uint8_t)(SAY_OUT + i)};
    }
    return process;
}

bool process_room(bool background) {
    if (!background) return foreground_count < PROCESSES_MAX;
    if (background_count < PROCESSES_MAX) return true;
    struct process *oldest = oldest_finished(false);
    if (oldest != NULL) forget(oldest);
    return oldest != NULL;
}

void process_register(struct process *process, bool background) {
    *(background ? &background_count : &foreground_count) += 1;
    process->id = ++last_id;
    process->background = background;
    process->next = processes;
    processes = process;
}

void say_started(struct port *port, uint32_t channel, const struct process *process) {
    struct frame_mark mark = frame_begin(&port->out, SAY_STARTED, channel);
    put_u64(&port->out, TAG_PROCESS, process->id);
    put_u64(&port->out, TAG_PID, (uint64_t)process->pid);
    if (process->terminal) put_u64(&port->out, TAG_FLAGS, STARTED_TERMINAL);
    frame_end(&port->out, mark);
}

void process_started(struct process *process, pid_t pid) {
    process->pid = pid;
    if (process->channel.port == NULL) return;
    struct port *port = process->channel.port;
    say_started(port, process->channel.id, process);
    if (process->background) {
        say(port, process->channel.id, SAY_DONE);
        channel_close(&process->channel);
    } else if (process->input.source.fd >= 0) {
        say_u64(port, process->channel.id, SAY_CREDIT, TAG_BYTES, WINDOW_BYTES);
    }
}

void process_failed(struct process *process, int code, const char *format, ...) {
    char text[256];
    va_list rest;
    va_start(rest, format);
    vsnprintf(text, sizeof text, format, rest);
    va_end(rest);
    warm_forget(process);
    if (process->channel.port != NULL) {
        say_error(process->channel.port, process->channel.id, code, "%s", text);
        channel_close(&process->channel);
    }
    forget(process);
}

void process_kill(struct process *process) {
    if (process->pid != 0 && !process->finished) cgroup_signal(&process->cgroup, process->exited ? 0 : process->pid, SIGKILL);
}

static void channel_data(struct channel *channel, const uint8_t *bytes, uint32_t length) {
    input_data(owner_of(channel, struct process, channel), bytes, length);
}

static void channel_resume(struct channel *channel) {
    task_queue(&owner_of(channel, struct process, channel)->pump);
}

static void channel_gone(struct channel *channel) {
    struct process *process = owner_of(channel, struct process, channel);
    if (process->background) return; /* it does not depend on whoever has started it */
    process->discard = true;
    process_kill(process);
    if (process->pid == 0) process_failed(process, ECANCELED, "cancelled");
    else task_queue(&process->pump);
}

static void channel_cancel(struct channel *channel) {
    struct process *process = owner_of(channel, struct process, channel);
    if (process->background) process_failed(process, ECANCELED, "cancelled");
    else channel_gone(channel);
}

const struct channel_ops process_channel = {
    .data = channel_data, .resume = channel_resume, .cancel = channel_cancel, .gone = channel_gone};

void say_exit(struct port *port, uint32_t channel, const struct process *process) {
    bool signalled = WIFSIGNALED(process->status);
    uint64_t flags = (process->timed_out ? EXIT_TIMED_OUT : 0) | (process->streams[0].cut ? EXIT_STDOUT_CUT : 0) |
                     (process->streams[1].cut ? EXIT_STDERR_CUT : 0);
    struct buf *out = &port->out;
    struct frame_mark mark = frame_begin(out, SAY_EXIT, channel);
    put_u64(out, TAG_CODE, signalled ? UINT64_MAX : (uint64_t)WEXITSTATUS(process->status));
    put_u64(out, TAG_SIGNAL, signalled ? (uint64_t)WTERMSIG(process->status) : 0);
    put_u64(out, TAG_FLAGS, flags);
    put_u64(out, TAG_STDOUT_BYTES, process->streams[0].counted);
    put_u64(out, TAG_STDERR_BYTES, process->streams[1].counted);
    put_u64(out, TAG_DURATION_US, (process->ended_ns - process->started_ns) / 1000);
    frame_end(out, mark);
}

void process_finish(struct process *process) {
    process->finished = true;
    if (process->channel.port != NULL) {
        say_exit(process->channel.port, process->channel.id, process);
        channel_close(&process->channel);
        ports_flush(); /* nobody has to wait for what follows */
    }
    streams_close(process);
    input_close(process);
    cgroup_release(&process->cgroup);
    if (process->python) warm_refill();
    if (!process->background) {
        forget(process);
        return;
    }
    attachers_wake(process);
    /* Half of the budget stays free for commands that still run. */
    while (rings_bytes() > RING_BUDGET_BYTES / 2) {
        struct process *oldest = oldest_finished(true);
        if (oldest == NULL) break;
        ring_clear(&oldest->ring);
    }
}

void processes_end(void) {
    warm_end();
    while (processes != NULL) {
        process_kill(processes);
        forget(processes);
    }
    leftovers_end();
}

static void ended(struct process *process, int status) {
    process->exited = true;
    process->status = status;
    process->ended_ns = now_ns();
    timer_drop(&process->timeout);
    streams_measure(process);
    task_queue(&process->pump);
}

static bool reap(struct task *task) {
    (void)task;
    for (int i = 0; i < REAPED_PER_TURN; i++) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0) {
            cgroups_sweep();
            return false;
        }
        struct process *process = processes;
        while (process != NULL && (process->pid != pid || process->exited)) process = process->next;
        if (process != NULL) ended(process, status);
        else freeze_reaped(pid, status), warm_reaped(pid);
    }
    return true; /* a fork bomb's remains: others get their turn in between */
}

static struct task reaper = {.run = reap};

static void signalled(struct source *source, uint32_t events) {
    (void)events;
    struct signalfd_siginfo information[8];
    while (read(source->fd, information, sizeof information) > 0) continue;
    if (reap(&reaper)) task_queue(&reaper);
}

void reaper_open(void) {
    static struct source source;
    sigset_t set;
    sigfillset(&set);
    /* An ordinary process stays killable; faults are never blockable. */
    if (!agent.is_init) sigemptyset(&set), sigaddset(&set, SIGCHLD), sigaddset(&set, SIGPIPE);
    sigprocmask(SIG_SETMASK, &set, NULL);
    source = (struct source){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .ready = signalled};
    if (source.fd < 0 || loop_watch(&source, EPOLLIN) != 0) give_up("signalfd: %s", strerror(errno));
}
