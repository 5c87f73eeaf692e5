/* The zygote's life, its spare child, and handing programs over; see warm.h. */
#define _GNU_SOURCE
#include "warm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fits.h"

enum {
    JOB_BYTES = 60 * 1024, /* what an empty pipe takes at once */
    CHILD_FDS = 4,         /* job, stdin, stdout, stderr */
    ANNOUNCEMENT_BYTES = 64 * 1024,
    COMPLAINT_BYTES = 2048,
};
/* Making a child takes milliseconds, fifteen times that under emulation: by then the zygote is not working any more. */
#define PATIENCE_NS 20000000000u

static const char *script = "/usr/lib/warren/warm.py";
static bool reseeding = true;

/* The interpreter that has the modules. */
static struct {
    pid_t pid; /* 0: none */
    bool ready;
    dev_t cwd_dev; /* its working directory, and its children's */
    ino_t cwd_ino;
    struct source control, errors;
    struct channel channel; /* of the WARM under way */
    size_t complaint_length;
    char complaint[COMPLAINT_BYTES];
} zygote = {.control = {.fd = -1}, .errors = {.fd = -1}};

/* A child of it without a program. */
static struct {
    bool asked;
    bool ready;
    struct process *process; /* registered nowhere until it gets a program */
    int job_fd;              /* where the program is written to */
} spare = {.job_fd = -1};

/* A command that waits for a child. */
struct waiter {
    struct waiter *next;
    struct process *process;
    struct timer patience;
};
static struct waiter *waiters, **last_waiter = &waiters;

void warm_script(const char *path) { script = path; }

void warm_reseed(bool on) { reseeding = on; }

/* Memory of its own, not shared with a file. */
static uint64_t anonymous_bytes(pid_t pid) {
    char path[64], line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1) break;
    }
    if (file != NULL) fclose(file);
    return kib * 1024;
}

static void spare_drop(void) {
    if (spare.process != NULL) process_discard(spare.process);
    if (spare.job_fd >= 0) close(spare.job_fd);
    spare.process = NULL;
    spare.job_fd = -1;
    spare.asked = spare.ready = false;
}

/* Takes the first waiter off the list. */
static struct process *next_waiter(void) {
    struct waiter *first = waiters;
    struct process *process = first->process;
    waiters = first->next;
    if (waiters == NULL) last_waiter = &waiters;
    timer_drop(&first->patience);
    free(first);
    return process;
}

void warm_forget(struct process *process) {
    for (struct waiter **at = &waiters; *at != NULL; at = &(*at)->next) {
        struct waiter *waiter = *at;
        if (waiter->process != process) continue;
        *at = waiter->next;
        if (*at == NULL) last_waiter = at;
        timer_drop(&waiter->patience);
        free(waiter);
        return;
    }
}

/* Asks the zygote for a child with these descriptors; -1 with errno. */
static int ask_for_child(const int fds[CHILD_FDS]) {
    union {
        char space[CMSG_SPACE(CHILD_FDS * sizeof(int))];
        struct cmsghdr align;
    } control = {.space = {0}};
    char word[] = "child";
    struct iovec part = {.iov_base = word, .iov_len = sizeof word};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(CHILD_FDS * sizeof(int));
    memcpy(CMSG_DATA(header), fds, CHILD_FDS * sizeof(int));
    return sendmsg(zygote.control.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -1 : 0;
}

bool warm_fits(struct order *order) { return zygote.ready && fits(order); }

struct process *warm_child(void) {
    if (!spare.ready || waiters != NULL) return NULL;
    struct process *process = spare.process;
    spare.process = NULL;
    return process;
}

/* False when the pipe does not take it whole. */
static bool write_job(const struct order *order) {
    static char job[JOB_BYTES];
    /* Only root may go wherever it already is. */
    bool there = order->user.uid == 0 && order->cwd_dev == zygote.cwd_dev && order->cwd_ino == zygote.cwd_ino;
    size_t length = fits_job(order, reseeding, there, job, JOB_BYTES);
    return length > 0 && write(spare.job_fd, job, length) == (ssize_t)length;
}

void warm_begin(struct process *process) {
    struct order *order = process->order;
    bool written = write_job(order);
    pid_t pid = process->pid;
    spare_drop();
    if (!written) {
        /* It reads the end of its pipe and goes; the reaper finds no command of that number. */
        for (int i = 0; i < 2; i++) loop_close(&process->streams[i].source);
        loop_close(&process->input.source);
        cgroup_release(&process->cgroup);
        process->pid = 0;
        exec_cold(process);
        return;
    }
    if ((order->flags & EXEC_STDIN_OPEN) == 0) loop_close(&process->input.source);
    process->order = NULL;
    order_free(order);
    process_started(process, pid);
}

static void serve_waiters(void) {
    while (waiters != NULL && spare.ready) {
        struct process *process = next_waiter(), *child = spare.process;
        spare.process = NULL;
        process_adopt(process, child);
        warm_begin(process);
    }
    if (waiters != NULL) warm_refill();
}

static void out_of_patience(struct timer *timer) {
    struct process *process = owner_of(timer, struct waiter, patience)->process;
    warm_forget(process);
    exec_cold(process);
}

/* The answer to WARM. */
static void confirm(void) {
    if (zygote.channel.port == NULL) return;
    say(zygote.channel.port, zygote.channel.id, SAY_DONE);
    channel_close(&zygote.channel);
}

/* The child's first word on its stdout is its number: from now on it waits for a program. */
static void spare_speaks(struct source *source, uint32_t events) {
    (void)events;
    struct process *process = spare.process;
    char text[16] = "";
    ssize_t length = read(source->fd, text, sizeof text - 1);
    if (length < 0 && errno == EAGAIN) return;
    int pid = length > 0 ? atoi(text) : 0;
    if (pid <= 1) {
        spare_drop(); /* it has ended before it could say so */
        return;
    }
    process->cgroup = cgroup_make();
    process->pid = pid;
    if (cgroup_join(&process->cgroup, pid) != 0) {
        /* No byte of a user runs outside its cgroup: this child is of no use. */
        note("warm child %d: %s", pid, strerror(errno));
        kill(pid, SIGKILL);
        spare_drop();
    } else {
        process_score(pid, "0");
        source->ready = stream_ready;
        spare.ready = true;
    }
    confirm();
    serve_waiters();
}

/* The pipes of a child to be: its ends in `fds`, ours in the process; false when there are no descriptors left. */
static bool open_child_pipes(struct process *process, int fds[CHILD_FDS]) {
    int pairs[CHILD_FDS][2];
    for (int i = 0; i < CHILD_FDS; i++) {
        if (pipe2(pairs[i], O_CLOEXEC) == 0) continue;
        while (i-- > 0) close(pairs[i][0]), close(pairs[i][1]);
        return false;
    }
    spare.job_fd = pairs[0][1];
    fcntl(spare.job_fd, F_SETFL, O_NONBLOCK);
    input_open(process, pairs[1][1]);
    stream_open(&process->streams[0], pairs[2][0]);
    stream_open(&process->streams[1], pairs[3][0]);
    fds[0] = pairs[0][0];
    fds[1] = pairs[1][0];
    fds[2] = pairs[2][1];
    fds[3] = pairs[3][1];
    return true;
}

void warm_refill(void) {
    int fds[CHILD_FDS];
    if (!zygote.ready || spare.asked) return;
    struct process *process = process_allocate();
    spare.process = process;
    if (!open_child_pipes(process, fds)) {
        spare_drop();
        return;
    }
    process->streams[0].source.ready = spare_speaks;
    spare.asked = ask_for_child(fds) == 0;
    for (int i = 0; i < CHILD_FDS; i++) close(fds[i]);
    if (!spare.asked) spare_drop();
}

static void read_complaint(void) {
    char bytes[512];
    ssize_t got;
    while (zygote.errors.fd >= 0 && (got = read(zygote.errors.fd, bytes, sizeof bytes)) > 0) {
        /* The end of a traceback says the most. */
        size_t keep = COMPLAINT_BYTES - (size_t)got;
        if (zygote.complaint_length > keep) {
            memmove(zygote.complaint, zygote.complaint + zygote.complaint_length - keep, keep);
            zygote.complaint_length = keep;
        }
        memcpy(zygote.complaint + zygote.complaint_length, bytes, (size_t)got);
        zygote.complaint_length += (size_t)got;
    }
}

static void zygote_complains(struct source *source, uint32_t events) {
    (void)source, (void)events;
    read_complaint();
}

static void zygote_speaks(struct source *source, uint32_t events) {
    (void)events;
    static char bytes[ANNOUNCEMENT_BYTES];
    ssize_t length = zygote.ready ? 0 : recv(source->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (length <= 0) return; /* its end is the reaper's to report */
    if (!fits_learn(bytes, (size_t)length)) {
        kill(zygote.pid, SIGKILL);
        return;
    }
    zygote.ready = true;
    loop_close(&zygote.errors);
    cgroups_reserve(anonymous_bytes(zygote.pid));
    warm_refill();
}

static void zygote_ended(void) {
    read_complaint();
    loop_close(&zygote.control);
    loop_close(&zygote.errors);
    zygote.pid = 0;
    zygote.ready = false;
    cgroups_reserve(0);
    if (!spare.ready) spare_drop();
    if (zygote.channel.port != NULL) {
        say_error(zygote.channel.port, zygote.channel.id, EIO, "the warm interpreter ended: %.*s",
                  (int)zygote.complaint_length, zygote.complaint);
        channel_close(&zygote.channel);
    }
    while (waiters != NULL) exec_cold(next_waiter());
}

void warm_reaped(pid_t pid) {
    if (pid == zygote.pid) zygote_ended();
    if (spare.process == NULL || pid != spare.process->pid) return;
    spare_drop();
    if (waiters != NULL) warm_refill();
}

void warm_wait(struct process *process) {
    struct waiter *waiter = must_alloc(sizeof *waiter);
    waiter->process = process;
    waiter->patience.fire = out_of_patience;
    timer_set(&waiter->patience, now_ns() + PATIENCE_NS);
    *last_waiter = waiter;
    last_waiter = &waiter->next;
    warm_refill();
}

static pid_t start_zygote(const struct fields *fields, int control, int errors) {
    static char python3[] = "python3";
    struct order *order = order_new(fields->args + 1, 0);
    char *no_variables[] = {NULL}, *text = order->text = must_alloc(fields->length + 1);
    struct field field;
    size_t count = 0;
    order->argv[count++] = python3;
    order->argv[count++] = (char *)script;
    for (uint32_t at = 0; fields_next(fields, TAG_ARG, &at, &field);) {
        memcpy(text, field.bytes, field.length);
        order->argv[count++] = text;
        text += field.length + 1;
    }
    order_environment(order, no_variables);
    order_in(order, NULL);
    zygote.cwd_dev = order->cwd_dev;
    zygote.cwd_ino = order->cwd_ino;
    struct cgroup none = {.fd = -1};
    int in[2] = {-1, -1};
    /* Its streams are pipes, as a program's will be: Python looks at that when it makes sys.stdin. */
    if (pipe2(in, O_CLOEXEC) != 0) return -1;
    close(in[1]);
    const struct launch how = {.file = "/usr/bin/python3",
                               .argv = order->argv,
                               .envp = order->envp,
                               .cwd = order->cwd,
                               .user = &order->user,
                               .fds = {in[0], errors, errors, control},
                               .cgroup = &none};
    pid_t pid = launch(&how);
    close(in[0]);
    order_free(order);
    return pid;
}

static void port_gone(struct channel *channel) { (void)channel; }

/* It goes on; only its answer is given up. */
static void not_waited_for(struct channel *channel) {
    say_error(channel->port, channel->id, ECANCELED, "cancelled");
    channel_close(channel);
}

static const struct channel_ops warm_channel = {.cancel = not_waited_for, .gone = port_gone};

void handle_warm(struct port *port, const struct frame *frame, const struct fields *fields) {
    int control[2], errors[2];
    if (zygote.pid != 0) {
        say_error(port, frame->channel, EALREADY, "there is a warm interpreter already");
        return;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0 || pipe2(errors, O_CLOEXEC) != 0 ||
        !channel_open(port, &zygote.channel, frame->channel, &warm_channel)) {
        say_error(port, frame->channel, EMFILE, "warm interpreter: no descriptors");
        return;
    }
    zygote.complaint_length = 0;
    zygote.control = (struct source){.fd = control[0], .ready = zygote_speaks};
    zygote.errors = (struct source){.fd = errors[0], .ready = zygote_complains};
    fcntl(errors[0], F_SETFL, O_NONBLOCK);
    zygote.pid = start_zygote(fields, control[1], errors[1]);
    close(control[1]);
    close(errors[1]);
    loop_watch(&zygote.control, EPOLLIN);
    loop_watch(&zygote.errors, EPOLLIN);
    if (zygote.pid < 0) zygote_ended();
    else process_score(zygote.pid, "-500");
}

bool warm_settles(struct port *port, uint32_t channel) {
    if (!zygote.ready || spare.ready || zygote.channel.port != NULL) return false;
    if (!channel_open(port, &zygote.channel, channel, &warm_channel)) return false;
    warm_refill();
    return true;
}

void warm_end(void) {
    if (zygote.pid > 0) kill(zygote.pid, SIGKILL);
    if (spare.ready) kill(spare.process->pid, SIGKILL);
    while (waiters != NULL) next_waiter();
    spare_drop();
    fits_forget();
}
