/*
 * Commands in terminals: a pty whose slave is the command's stdin, stdout, stderr and controlling terminal. The agent has the
 * master: what is read from it is the command's output, what is written to it is typed. When the command has ended, what the
 * terminal still holds is passed on, and then it hangs up, whoever else has it open.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "exec.h"

bool terminal_size(const struct fields *fields, struct winsize *out) {
    uint64_t rows = 0, cols = 0;
    if (!fields_u64(fields, TAG_ROWS, &rows) || !fields_u64(fields, TAG_COLS, &cols)) return false;
    if (rows == 0 || rows > UINT16_MAX || cols == 0 || cols > UINT16_MAX) return false;
    *out = (struct winsize){.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
    return true;
}

/* The slave's end, without a path, which would lead elsewhere where user code has mounted something. */
static int open_slave(int master, const struct order *order) {
    int locked = 0;
    struct termios modes;
    if (ioctl(master, TIOCSPTLCK, &locked) != 0) return -1;
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0) return -1;
    if (tcgetattr(slave, &modes) == 0) {
        modes.c_iflag |= IUTF8; /* erasing a character erases all of its bytes */
        tcsetattr(slave, TCSANOW, &modes);
    }
    /* By its path it is opened as a file, by tmux for instance. */
    if (order->user.uid != 0 && fchown(slave, order->user.uid, (gid_t)-1) != 0 && agent.is_init) {
        int code = errno;
        close(slave);
        errno = code;
        return -1;
    }
    return slave;
}

int terminal_open(struct process *process) {
    struct order *order = process->order;
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (master < 0) return -1;
    process->terminal = true;
    stream_open(&process->streams[0], master);
    for (int i = 0; i < 3; i++) {
        order->fds[i] = i == 0 ? open_slave(master, order) : fcntl(order->fds[0], F_DUPFD_CLOEXEC, 3);
        if (order->fds[i] < 0) return -1;
    }
    if (ioctl(master, TIOCSWINSZ, &order->size) != 0) return -1;
    int typing = fcntl(master, F_DUPFD_CLOEXEC, 3);
    if (typing < 0) return -1;
    input_open(process, typing);
    return 0;
}

/* A line that has begun is ended by the first of two; one that has not, by one. */
bool terminal_end_input(struct process *process) {
    struct input *input = &process->input;
    struct termios modes;
    if (tcgetattr(input->source.fd, &modes) != 0) return true;
    /* A program that takes keys one by one has its own idea of an end. */
    if ((modes.c_lflag & ICANON) == 0 || modes.c_cc[VEOF] == _POSIX_VDISABLE) return true;
    for (;;) {
        ssize_t written = write(input->source.fd, &modes.c_cc[VEOF], 1);
        if (written < 0 && errno == EAGAIN) return false;
        if (written < 0 || !input->line_open) return true;
        input->line_open = false;
    }
}

void handle_resize(struct port *port, const struct frame *frame, const struct fields *fields) {
    uint64_t id = 0;
    struct winsize size;
    if (!fields_u64(fields, TAG_PROCESS, &id) || !terminal_size(fields, &size)) {
        say_error(port, frame->channel, EINVAL, "a terminal has 1 to 65535 rows and columns");
        return;
    }
    struct process *process = process_find(id);
    if (process == NULL || process->finished) {
        say_error(port, frame->channel, ESRCH, "no running command %llu", (unsigned long long)id);
    } else if (!process->terminal) {
        say_error(port, frame->channel, ENOTTY, "command %llu has no terminal", (unsigned long long)id);
    } else if (ioctl(process->streams[0].source.fd, TIOCSWINSZ, &size) != 0) {
        say_error(port, frame->channel, errno, "terminal: cannot be resized");
    } else {
        say(port, frame->channel, SAY_DONE);
    }
}
