/* EXEC: from a request's fields to a running command. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "process.h"
#include "warm.h"

enum { DEFAULTS = 4, DEFAULT_TEXT_BYTES = 400 };

/* A request's strings, copied and terminated; freed as one. */
struct order {
    char *text;
    char **argv; /* for Python: python3, path, arguments… */
    char **envp;
    char defaults[DEFAULTS][DEFAULT_TEXT_BYTES];
    char cwd[PATH_BYTES];
    struct user user;
    uint64_t timeout_ms, output_limit, flags;
    bool own_env; /* the request has ENV */
};

static const struct user root = {.group_count = 1, .name = "root", .home = "/root"};

static void order_free(struct order *order) {
    free(order->text);
    free(order->argv);
    free(order->envp);
}

/* Copies every value of `tag` to `list`; false when one holds a NUL (or, for ENV, no name). */
static bool copy_texts(const struct fields *fields, uint8_t tag, char **text, char **list) {
    struct field field;
    for (uint32_t at = 0; fields_next(fields, tag, &at, &field);) {
        if (memchr(field.bytes, 0, field.length) != NULL) return false;
        if (tag == TAG_ENV) {
            const char *equals = memchr(field.bytes, '=', field.length);
            if (equals == NULL || equals == (const char *)field.bytes) return false;
        }
        memcpy(*text, field.bytes, field.length);
        (*text)[field.length] = 0;
        *list++ = *text;
        *text += field.length + 1;
    }
    return true;
}

/* The default for a name unless the request has set it. */
static void merge_defaults(struct order *order, char **given) {
    snprintf(order->defaults[0], DEFAULT_TEXT_BYTES, "PATH=%s", DEFAULT_PATH);
    snprintf(order->defaults[1], DEFAULT_TEXT_BYTES, "HOME=%s", order->user.home);
    snprintf(order->defaults[2], DEFAULT_TEXT_BYTES, "USER=%s", order->user.name);
    snprintf(order->defaults[3], DEFAULT_TEXT_BYTES, "LANG=C.UTF-8");
    char **envp = order->envp;
    for (int i = 0; i < DEFAULTS; i++) {
        size_t name = strcspn(order->defaults[i], "=") + 1;
        bool set = false;
        for (char **at = given; *at != NULL && !set; at++) set = strncmp(*at, order->defaults[i], name) == 0;
        if (!set) *envp++ = order->defaults[i];
    }
    while (*given != NULL) *envp++ = *given++;
    *envp = NULL;
}

static bool copy_strings(const struct fields *fields, struct order *order) {
    bool python = (order->flags & EXEC_PYTHON) != 0;
    order->text = must_alloc(fields->length + fields->args + fields->envs + 1);
    order->argv = must_alloc((fields->args + 3) * sizeof(char *));
    order->envp = must_alloc((fields->envs + DEFAULTS + 1) * sizeof(char *));
    char **given = must_alloc((fields->envs + 1) * sizeof(char *));
    char *text = order->text;
    bool good = copy_texts(fields, TAG_ARG, &text, order->argv + (python ? 1 : 0)) &&
                copy_texts(fields, TAG_ENV, &text, given);
    static char python3[] = "python3";
    if (python) order->argv[0] = python3;
    merge_defaults(order, given);
    order->own_env = fields->envs > 0;
    free(given);
    return good;
}

static bool is_directory(const char *path) {
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISDIR(facts.st_mode);
}

/* NULL, or what is wrong with the request. */
static const char *parse(const struct fields *fields, struct order *order) {
    order->output_limit = UINT64_MAX;
    if (!fields_optional_u64(fields, TAG_TIMEOUT_MS, &order->timeout_ms) ||
        !fields_optional_u64(fields, TAG_OUTPUT_LIMIT, &order->output_limit) ||
        !fields_optional_u64(fields, TAG_FLAGS, &order->flags)) {
        return "malformed request";
    }
    if (fields->args == 0) return "no command";
    order->user = root;
    char name[64];
    if (fields_has(fields, TAG_USER)) {
        if (!fields_text(fields, TAG_USER, name, sizeof name)) return "malformed user";
        if (user_find(name, &order->user) != 0) return "no such user";
    }
    if (!copy_strings(fields, order)) return "an argument or variable with a NUL byte, or a variable without a name";
    snprintf(order->cwd, sizeof order->cwd, "%s", is_directory(WORK_DIR) ? WORK_DIR : "/");
    if (fields_has(fields, TAG_CWD)) {
        if (!fields_text(fields, TAG_CWD, order->cwd, sizeof order->cwd)) return "malformed working directory";
        if (!is_directory(order->cwd)) return "the working directory is no directory";
    }
    return NULL;
}

/* The program's text, written over whatever is at its path. */
static int write_code(const char *path, const struct field *code, const struct user *user) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
    if (fd < 0) return -1;
    size_t at = 0;
    while (at < code->length) {
        ssize_t written = write(fd, code->bytes + at, code->length - at);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) break;
        at += (size_t)written;
    }
    bool owned = user->uid == 0 || fchown(fd, user->uid, user->gid) == 0 || !agent.is_init;
    int code_of = errno;
    close(fd);
    errno = code_of;
    return at == code->length && owned ? 0 : -1;
}

static void show_command(struct process *process, char *const *argv) {
    size_t at = 0;
    for (; *argv != NULL && at < COMMAND_BYTES; argv++) {
        if (at > 0) process->command[at++] = ' ';
        size_t length = strlen(*argv);
        if (length > COMMAND_BYTES - at) length = COMMAND_BYTES - at;
        memcpy(process->command + at, *argv, length);
        at += length;
    }
    process->command_length = (uint16_t)at;
}

static void output_ready(struct source *source, uint32_t events) {
    (void)events;
    struct stream *stream = owner_of(source, struct stream, source);
    stream->readable = true;
    task_queue(&stream->owner->pump);
}

static void watch_output(struct process *process, int index, int fd) {
    struct stream *stream = &process->streams[index];
    fcntl(fd, F_SETFL, O_NONBLOCK);
    stream->source = (struct source){.fd = fd, .ready = output_ready};
    loop_watch(&stream->source, EPOLLIN);
}

/* Opens the pipes; `fds` are the command's ends. */
static int open_pipes(struct process *process, const struct order *order, int fds[3]) {
    int in[2] = {-1, -1}, out[2], err[2];
    bool open_stdin = (order->flags & EXEC_STDIN_OPEN) != 0;
    /* Python sees a pipe either way, as its warm interpreter expects one. */
    if ((open_stdin || process->python) && pipe2(in, O_CLOEXEC) != 0) return -1;
    if (pipe2(out, O_CLOEXEC) != 0) return close(in[0]), close(in[1]), -1;
    if (pipe2(err, O_CLOEXEC) != 0) return close(in[0]), close(in[1]), close(out[0]), close(out[1]), -1;
    if (open_stdin) input_open(process, in[1]);
    else if (in[1] >= 0) close(in[1]);
    watch_output(process, 0, out[0]);
    watch_output(process, 1, err[0]);
    fds[0] = in[0] >= 0 ? in[0] : fcntl(agent.null_fd, F_DUPFD_CLOEXEC, 3);
    fds[1] = out[1];
    fds[2] = err[1];
    return 0;
}

static void start(struct process *process, const struct order *order) {
    int fds[4] = {-1, -1, -1, -1};
    if (open_pipes(process, order, fds) != 0) {
        process_failed(process, errno, "pipe: %s", strerror(errno));
        return;
    }
    if (process->python) {
        const struct program program = {.path = order->argv[1],
                                        .args = order->argv + 2,
                                        .envp = order->own_env || order->user.uid != 0 ? order->envp : NULL,
                                        .cwd = order->cwd,
                                        .user = &order->user};
        if (warm_fits(&program) && warm_run(process, &program, fds)) return;
    }
    process->cgroup = cgroup_make();
    const struct launch how = {.file = process->python ? "/usr/bin/python3" : NULL,
                               .argv = order->argv,
                               .envp = order->envp,
                               .cwd = order->cwd,
                               .user = &order->user,
                               .fds = {fds[0], fds[1], fds[2], -1},
                               .cgroup = &process->cgroup};
    pid_t pid = launch(&how);
    int code = errno;
    for (int i = 0; i < 3; i++) close(fds[i]);
    if (pid < 0) process_failed(process, code, "fork: %s", strerror(code));
    else process_started(process, pid);
}

void handle_exec(struct port *port, const struct frame *frame, const struct fields *fields) {
    struct order *order = must_alloc(sizeof *order);
    const char *wrong = parse(fields, order);
    const struct field *code = &fields->known[TAG_CODE];
    struct process *process = NULL;
    if (wrong != NULL) {
        say_error(port, frame->channel, EINVAL, "%s", wrong);
    } else if ((order->flags & EXEC_PYTHON) && code->bytes && write_code(order->argv[1], code, &order->user) != 0) {
        say_error(port, frame->channel, errno, "%s: %s", order->argv[1], strerror(errno));
    } else if ((process = process_new((order->flags & EXEC_BACKGROUND) != 0)) == NULL) {
        say_error(port, frame->channel, EAGAIN, "too many commands");
    } else if (!channel_open(port, &process->channel, frame->channel, &process_channel)) {
        process_failed(process, EBUSY, "channel in use");
    } else {
        process->python = (order->flags & EXEC_PYTHON) != 0;
        process->started_ns = now_ns();
        for (int i = 0; i < 2; i++) process->streams[i].left = order->output_limit;
        if (order->timeout_ms > 0) timer_set(&process->timeout, process->started_ns + order->timeout_ms * 1000000);
        show_command(process, order->argv);
        start(process, order);
    }
    order_free(order);
    free(order);
}
