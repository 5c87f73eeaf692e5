/*
 * The warm interpreter: a zygote (images/python/warm.py) that has imported a template's modules, and one spare child of it
 * that waits, already forked, in a cgroup of its own, for a program to run. Handing over a program is one message.
 */
#ifndef WARM_H
#define WARM_H

#include "agent.h"

struct process;

void handle_warm(struct port *port, const struct frame *frame, const struct fields *fields);
/* Hands the process's order over, at once or when a child is there. False: it is for a fresh interpreter. */
bool warm_takes(struct process *process);
/* The process no longer waits for a child. */
void warm_forget(struct process *process);
/* Has the next child made. */
void warm_refill(void);
/* A child of ours has ended that is no command. */
void warm_reaped(pid_t pid);
/* Whether programs get fresh randomness; off in the control run alone. */
void warm_reseed(bool on);
/* Another script than the guest's, for tests. */
void warm_script(const char *path);
/* Ends the interpreter. */
void warm_end(void);

#endif
