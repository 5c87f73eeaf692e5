/* Diagnostics: short lines in the kernel log, which reaches the console whether or not one is attached. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "agent.h"

static void write_line(const char *format, va_list rest) {
    char line[400] = "<3>warren agent: ";
    size_t used = strlen(line);
    int length = vsnprintf(line + used, sizeof line - used - 1, format, rest);
    if (length < 0) return;
    used += (size_t)length < sizeof line - used - 1 ? (size_t)length : sizeof line - used - 2;
    line[used++] = '\n';
    int fd = agent.is_init ? open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NOCTTY) : -1;
    if (fd >= 0) {
        if (write(fd, line, used) < 0) close(fd), fd = -1;
    }
    /* The priority in front is for the kernel alone. When stderr is gone as well, nobody is left to tell. */
    if (fd < 0) {
        if (write(STDERR_FILENO, line + 3, used - 3) < 0) return;
    } else {
        close(fd);
    }
}

void note(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    write_line(format, rest);
    va_end(rest);
}

void give_up(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    write_line(format, rest);
    va_end(rest);
    if (!agent.is_init) exit(1);
    sync();
    reboot(RB_AUTOBOOT); /* under `-no-reboot` the VMM ends, and the host learns of it at once */
    for (;;) pause();
}
