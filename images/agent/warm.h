/*
 * The warm interpreter: a zygote (images/python/warm.py) that has imported a template's modules, and one spare child of it
 * that waits, already forked, in a cgroup of its own, for a program to run. Handing over a program is one message.
 */
#ifndef WARM_H
#define WARM_H

#include "agent.h"

struct process;

/* A Python program as EXEC gives it. */
struct program {
    const char *path;
    char *const *args; /* after the path; NULL-terminated */
    char *const *envp; /* NULL: what every command gets */
    const char *cwd;
    const struct user *user;
};

void handle_warm(struct port *port, const struct frame *frame, const struct fields *fields);
/*
 * True when this program would behave in the warm interpreter as in `python3 FILE`: nothing on disk, in the environment or
 * beside the file has changed what starting an interpreter and importing its modules would do.
 */
bool warm_fits(const struct program *program);
/* Hands the program over, at once or when a child is there; the descriptors are closed. False: run `python3` instead. */
bool warm_run(struct process *process, const struct program *program, const int fds[3]);
/* The process no longer waits for a child. */
void warm_forget(struct process *process);
/* Has the next child made, once there is time for it. */
void warm_refill(void);
/* A child of ours has ended that is no command. */
void warm_reaped(pid_t pid);
/* Whether programs get fresh randomness; off in the control run alone. */
void warm_reseed(bool on);

#endif
