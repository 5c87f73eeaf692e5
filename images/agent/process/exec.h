/* A command between its request and its start; what exec.c, fits.c and warm.c share. */
#ifndef EXEC_H
#define EXEC_H

#include <sys/ioctl.h>
#include <termios.h>

#include "process.h"

enum { DEFAULT_VARIABLES = 5, VARIABLE_BYTES = 400 };

/* A request's strings, copied and terminated, and the command's ends of its pipes. */
struct order {
    char *text;
    char **argv; /* for Python: python3, path, arguments… */
    char **envp;
    char defaults[DEFAULT_VARIABLES][VARIABLE_BYTES];
    char cwd[PATH_BYTES];
    dev_t cwd_dev; /* which directory that is */
    ino_t cwd_ino;
    char directory[PATH_BYTES]; /* of a Python program, symlinks resolved; empty until `fits` has looked */
    struct user user;
    uint64_t timeout_ms, output_limit, flags;
    bool own_env; /* the request has ENV */
    int fds[3];
    bool terminal;       /* it runs in one */
    struct winsize size; /* of that */
};

/* An order without a request: root's, with room for so many arguments and variables. */
struct order *order_new(uint32_t args, uint32_t envs);
/* Puts it into this directory, NULL being the default one; false when there is no such directory. */
bool order_in(struct order *order, const char *cwd);
/* Fills in the default variables that `given` (NULL-terminated) does not set. */
void order_environment(struct order *order, char **given);
/* Closes its descriptors as well. */
void order_free(struct order *order);
/* Runs the process's order as a program of its own, and ends the order. */
void exec_cold(struct process *process);

#endif
