/* The one program in the agent fuzzer's empty root: does what a command could do to its streams. usage: talk WHAT NUMBER */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void put(int fd, long count) {
    static char bytes[8192];
    for (long left = count; left > 0;) {
        ssize_t written = write(fd, bytes, left > 8192 ? 8192 : (size_t)left);
        if (written <= 0) return;
        left -= written;
    }
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    long number = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
    char byte;
    if (strcmp(what, "out") == 0) put(1, number);
    if (strcmp(what, "both") == 0) put(2, number), put(1, number);
    if (strcmp(what, "cat") == 0) while (read(0, &byte, 1) == 1) put(1, 1);
    if (strcmp(what, "die") == 0) raise((int)number);
    if (strcmp(what, "stay") == 0) signal(SIGTERM, SIG_IGN), pause();
    if (strcmp(what, "fork") == 0 && fork() == 0) setsid(), put(1, number), pause();
    return (int)number;
}
