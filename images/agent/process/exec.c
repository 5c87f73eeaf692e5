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

#include "exec.h"
#include "../warm/warm.h"

static const struct user root = {.group_count = 1, .name = "root", .home = "/root"};

/* Takes note of which directory its working directory is; false when it is none. */
static bool identify_cwd(struct order *order) {
    struct stat facts;
    if (stat(order->cwd, &facts) != 0 || !S_ISDIR(facts.st_mode)) return false;
    order->cwd_dev = facts.st_dev;
    order->cwd_ino = facts.st_ino;
    return true;
}

struct order *order_new(uint32_t args, uint32_t envs) {
    struct order *order = must_alloc(sizeof *order);
    order->argv = must_alloc((args + 3) * sizeof(char *));
    order->envp = must_alloc((envs + DEFAULT_VARIABLES + 1) * sizeof(char *));
    order->user = root;
    order->output_limit = UINT64_MAX;
    order->fds[0] = order->fds[1] = order->fds[2] = -1;
    return order;
}

bool order_in(struct order *order, const char *cwd) {
    if (cwd != NULL) {
        snprintf(order->cwd, sizeof order->cwd, "%s", cwd);
        return identify_cwd(order);
    }
    return order_in(order, WORK_DIR) || order_in(order, "/");
}

void order_free(struct order *order) {
    if (order == NULL) return;
    for (int i = 0; i < 3; i++) {
        if (order->fds[i] >= 0) close(order->fds[i]);
    }
    free(order->text);
    free(order->argv);
    free(order->envp);
    free(order);
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

void order_environment(struct order *order, char **given) {
    snprintf(order->defaults[0], VARIABLE_BYTES, "PATH=%s", DEFAULT_PATH);
    snprintf(order->defaults[1], VARIABLE_BYTES, "HOME=%s", order->user.home);
    snprintf(order->defaults[2], VARIABLE_BYTES, "USER=%s", order->user.name);
    snprintf(order->defaults[3], VARIABLE_BYTES, "LANG=C.UTF-8");
    snprintf(order->defaults[4], VARIABLE_BYTES, "TERM=xterm-256color");
    char **envp = order->envp;
    int defaults = order->terminal ? DEFAULT_VARIABLES : DEFAULT_VARIABLES - 1;
    for (int i = 0; i < defaults; i++) {
        size_t name = strcspn(order->defaults[i], "=") + 1;
        bool set = false;
        for (char **at = given; *at != NULL && !set; at++) set = strncmp(*at, order->defaults[i], name) == 0;
        if (!set) *envp++ = order->defaults[i];
    }
    while (*given != NULL) *envp++ = *given++;
    *envp = NULL;
}

static bool copy_strings(const struct fields *fields, struct order *order) {
    static char python3[] = "python3";
    bool python = (order->flags & EXEC_PYTHON) != 0;
    char *text = order->text = must_alloc(fields->length + fields->args + fields->envs + 1);
    char **given = must_alloc((fields->envs + 1) * sizeof(char *));
    bool good = copy_texts(fields, TAG_ARG, &text, order->argv + (python ? 1 : 0)) &&
                copy_texts(fields, TAG_ENV, &text, given);
    if (python) order->argv[0] = python3;
    order_environment(order, given);
    order->own_env = fields->envs > 0;
    free(given);
    return good;
}

/* NULL, or what is wrong with the request. */
static const char *parse(const struct fields *fields, struct order *order) {
    if (!fields_optional_u64(fields, TAG_TIMEOUT_MS, &order->timeout_ms) ||
        !fields_optional_u64(fields, TAG_OUTPUT_LIMIT, &order->output_limit) ||
        !fields_optional_u64(fields, TAG_FLAGS, &order->flags)) {
        return "malformed request";
    }
    if (fields->args == 0) return "no command";
    order->terminal = fields_has(fields, TAG_ROWS) || fields_has(fields, TAG_COLS);
    if (order->terminal && !terminal_size(fields, &order->size)) return "a terminal has 1 to 65535 rows and columns";
    char name[64];
    if (fields_has(fields, TAG_USER)) {
        if (!fields_text(fields, TAG_USER, name, sizeof name)) return "malformed user";
        if (user_find(name, &order->user) != 0) return "no such user";
    }
    if (!copy_strings(fields, order)) return "an argument or variable with a NUL byte, or a variable without a name";
    char cwd[PATH_BYTES];
    bool own = fields_has(fields, TAG_CWD);
    if (own && !fields_text(fields, TAG_CWD, cwd, sizeof cwd)) return "malformed working directory";
    return order_in(order, own ? cwd : NULL) ? NULL : "the working directory is no directory";
}

/*
 * The program's text, over whatever is at its path. Cut to length afterwards and only if need be: emptying a file first
 * makes ext4 free its blocks and, on close, write the new ones out.
 */
static int write_code(const char *path, const struct field *code, const struct user *user) {
    struct stat facts;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
    if (fd < 0) return -1;
    bool good = fstat(fd, &facts) == 0;
    for (size_t at = 0; good && at < code->length;) {
        ssize_t written = write(fd, code->bytes + at, code->length - at);
        if (written < 0 && errno == EINTR) continue;
        good = written >= 0;
        at += good ? (size_t)written : 0;
    }
    if (good && S_ISREG(facts.st_mode) && facts.st_size > code->length) good = ftruncate(fd, code->length) == 0;
    if (good && facts.st_uid != user->uid) good = fchown(fd, user->uid, user->gid) == 0 || !agent.is_init;
    int why = errno;
    close(fd);
    errno = why;
    return good ? 0 : -1;
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

/* Opens the pipes; the command's ends go into its order. */
static int open_pipes(struct process *process) {
    struct order *order = process->order;
    if (order->terminal) return terminal_open(process);
    int in[2] = {-1, -1}, out[2], err[2];
    bool open_stdin = (order->flags & EXEC_STDIN_OPEN) != 0;
    /* Python sees a pipe either way, as its warm interpreter expects one. */
    if (open_stdin || process->python) {
        if (pipe2(in, O_CLOEXEC) != 0) return -1;
        order->fds[0] = in[0];
        if (open_stdin) input_open(process, in[1]);
        else close(in[1]);
    } else {
        order->fds[0] = fcntl(agent.null_fd, F_DUPFD_CLOEXEC, 3);
    }
    if (pipe2(out, O_CLOEXEC) != 0) return -1;
    order->fds[1] = out[1];
    stream_open(&process->streams[0], out[0]);
    if (pipe2(err, O_CLOEXEC) != 0) return -1;
    order->fds[2] = err[1];
    stream_open(&process->streams[1], err[0]);
    return 0;
}

void exec_cold(struct process *process) {
    struct order *order = process->order;
    if (open_pipes(process) != 0) {
        process_failed(process, errno, "%s: %s", process->order->terminal ? "terminal" : "pipe", strerror(errno));
        return;
    }
    process->order = NULL;
    process->cgroup = cgroup_make();
    const struct launch how = {.file = process->python ? "/usr/bin/python3" : NULL,
                               .argv = order->argv,
                               .envp = order->envp,
                               .cwd = order->cwd,
                               .user = &order->user,
                               .fds = {order->fds[0], order->fds[1], order->fds[2], -1},
                               .terminal = order->terminal,
                               .cgroup = &process->cgroup};
    pid_t pid = launch(&how);
    int code = errno;
    order_free(order);
    if (pid < 0) process_failed(process, code, "fork: %s", strerror(code));
    else process_started(process, pid);
}

/* Runs the order in a warm child that waits already, in one that is being made, or as a program of its own. */
static void start(struct port *port, uint32_t channel, struct order *order) {
    bool python = (order->flags & EXEC_PYTHON) != 0;
    bool warm = python && !order->terminal && warm_fits(order);
    struct process *process = warm ? warm_child() : NULL;
    bool waits = warm && process == NULL;
    bool cold = process == NULL;
    if (cold) process = process_allocate();
    process->order = order;
    process->python = python;
    process->started_ns = now_ns();
    for (int i = 0; i < 2; i++) process->streams[i].left = order->output_limit;
    show_command(process, order->argv);
    process_register(process, (order->flags & EXEC_BACKGROUND) != 0);
    channel_open(port, &process->channel, channel, &process_channel);
    if (order->timeout_ms > 0) timer_set(&process->timeout, process->started_ns + order->timeout_ms * 1000000);
    if (waits) warm_wait(process);
    else if (cold) exec_cold(process);
    else warm_begin(process);
}

void handle_exec(struct port *port, const struct frame *frame, const struct fields *fields) {
    struct order *order = order_new(fields->args, fields->envs);
    const char *wrong = parse(fields, order);
    const struct field *code = &fields->known[TAG_CODE];
    if (wrong != NULL) {
        say_error(port, frame->channel, EINVAL, "%s", wrong);
    } else if ((order->flags & EXEC_PYTHON) && code->bytes && write_code(order->argv[1], code, &order->user) != 0) {
        say_error(port, frame->channel, errno, "%s: %s", order->argv[1], strerror(errno));
    } else if (port->channels >= CHANNELS_MAX || !process_room((order->flags & EXEC_BACKGROUND) != 0)) {
        say_error(port, frame->channel, EAGAIN, "too many commands");
    } else {
        start(port, frame->channel, order);
        return;
    }
    order_free(order);
}
