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

enum { JOB_BYTES = 96 * 1024 /* as in warm.py */, ANNOUNCEMENT_BYTES = 64 * 1024, COMPLAINT_BYTES = 2048 };
/* Making a child takes milliseconds, fifteen times that under emulation: by then the zygote is not working any more. */
#define PATIENCE_NS 20000000000u

static const char *script = "/usr/lib/warren/warm.py";
static bool reseeding = true;

/* The interpreter that has the modules. */
static struct {
    pid_t pid; /* 0: none */
    bool ready;
    struct source control, errors;
    struct channel channel; /* of the WARM under way */
    size_t complaint_length;
    char complaint[COMPLAINT_BYTES];
} zygote = {.control = {.fd = -1}, .errors = {.fd = -1}};

/* A child of it without a program. */
static struct {
    bool asked;
    pid_t pid; /* 0: not there yet */
    struct source connection;
    struct cgroup cgroup;
} spare = {.connection = {.fd = -1}, .cgroup = {.fd = -1}};

/* A command that waits for a child. */
struct waiter {
    struct waiter *next;
    struct process *process;
    struct timer patience;
};
static struct waiter *waiters, **last_waiter = &waiters;

void warm_script(const char *path) { script = path; }

void warm_reseed(bool on) { reseeding = on; }

static void write_score(pid_t pid, const char *score) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", pid);
    int fd = agent.is_init ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    if (write(fd, score, strlen(score)) < 0) note("%s: %s", path, strerror(errno));
    close(fd);
}

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
    loop_close(&spare.connection);
    cgroup_release(&spare.cgroup);
    spare.pid = 0;
    spare.asked = false;
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

/* One message, with descriptors; -1 with errno. */
static int send_with(int socket, const void *bytes, size_t length, const int *fds, size_t count) {
    union {
        char space[CMSG_SPACE(3 * sizeof(int))];
        struct cmsghdr align;
    } control = {.space = {0}};
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)length ? 0 : -1;
}

/* Gives the spare child to a command; false when that is impossible, now or at all. */
static bool hand_over(struct process *process) {
    static char job[JOB_BYTES];
    size_t length = fits_job(process->order, reseeding, job, JOB_BYTES);
    bool sent = length > 0 && send_with(spare.connection.fd, job, length, process->order->fds, 3) == 0;
    if (length == 0) return false;
    pid_t pid = spare.pid;
    if (sent) {
        process->cgroup = spare.cgroup;
        spare.cgroup.fd = -1;
    }
    spare_drop();
    if (!sent) return false;
    order_free(process->order);
    process->order = NULL;
    process_started(process, pid);
    return true;
}

static void serve_waiters(void) {
    while (waiters != NULL && spare.pid != 0) {
        struct process *process = next_waiter();
        if (!hand_over(process)) exec_cold(process);
    }
    if (waiters != NULL) warm_refill();
}

static void out_of_patience(struct timer *timer) {
    struct process *process = owner_of(timer, struct waiter, patience)->process;
    warm_forget(process);
    exec_cold(process);
}

static void confirm(void) {
    if (zygote.channel.port == NULL) return;
    say(zygote.channel.port, zygote.channel.id, SAY_DONE);
    channel_close(&zygote.channel);
}

/* The child says its number: it waits for a program from now on. */
static void spare_speaks(struct source *source, uint32_t events) {
    (void)events;
    char text[16] = "";
    ssize_t length = recv(source->fd, text, sizeof text - 1, MSG_DONTWAIT);
    if (length < 0 && errno == EAGAIN) return;
    int pid = length > 0 ? atoi(text) : 0;
    if (pid <= 1 || spare.pid != 0) {
        if (spare.pid == 0) spare_drop(); /* a child that has a number is reaped like any other */
        return;
    }
    spare.cgroup = cgroup_make();
    if (cgroup_join(&spare.cgroup, pid) != 0) {
        /* No byte of a user runs outside its cgroup: this child is of no use. */
        note("warm child %d: %s", pid, strerror(errno));
        kill(pid, SIGKILL);
        spare_drop();
    } else {
        spare.pid = pid;
        write_score(pid, "0");
    }
    confirm();
    serve_waiters();
}

void warm_refill(void) {
    int pair[2];
    if (!zygote.ready || spare.asked) return;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return;
    spare.asked = send_with(zygote.control.fd, "child", 5, &pair[1], 1) == 0;
    close(pair[1]);
    spare.connection = (struct source){.fd = pair[0], .ready = spare_speaks};
    if (!spare.asked || loop_watch(&spare.connection, EPOLLIN) != 0) spare_drop();
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
    if (spare.pid == 0) spare_drop();
    if (zygote.channel.port != NULL) {
        say_error(zygote.channel.port, zygote.channel.id, EIO, "the warm interpreter ended: %.*s",
                  (int)zygote.complaint_length, zygote.complaint);
        channel_close(&zygote.channel);
    }
    while (waiters != NULL) exec_cold(next_waiter());
}

void warm_reaped(pid_t pid) {
    if (pid == zygote.pid) zygote_ended();
    if (pid != spare.pid) return;
    spare_drop();
    if (waiters != NULL) warm_refill();
}

bool warm_takes(struct process *process) {
    if (!zygote.ready || !fits(process->order)) return false;
    if (spare.pid != 0 && waiters == NULL) return hand_over(process);
    struct waiter *waiter = must_alloc(sizeof *waiter);
    waiter->process = process;
    waiter->patience.fire = out_of_patience;
    timer_set(&waiter->patience, now_ns() + PATIENCE_NS);
    *last_waiter = waiter;
    last_waiter = &waiter->next;
    warm_refill();
    return true;
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
    else write_score(zygote.pid, "-500");
}

void warm_end(void) {
    if (zygote.pid > 0) kill(zygote.pid, SIGKILL);
    if (spare.pid > 0) kill(spare.pid, SIGKILL);
    while (waiters != NULL) next_waiter();
    spare_drop();
    fits_forget();
}
