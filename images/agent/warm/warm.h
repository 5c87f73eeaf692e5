/*
 * The warm interpreter: a zygote (images/python/warm.py) that has imported a template's modules, and one spare child of it
 * that waits for a program: forked, its pipes open, in a cgroup of its own. Handing a program over is one write to a pipe;
 * on the way to a program's first line every system call counts, above all in a clone that runs each for the first time.
 */
#ifndef WARM_H
#define WARM_H

#include "../agent.h"

struct order;
struct process;

void handle_warm(struct port *port, const struct frame *frame, const struct fields *fields);
/* Whether there is a warm interpreter, and the order could not tell it from a fresh one. */
bool warm_fits(struct order *order);
/* A child that waits, as a process that has its pipes, its cgroup and its pid, but no order; NULL when none is ready. */
struct process *warm_child(void);
/* Hands the process's order to its child. */
void warm_begin(struct process *process);
/* Has it run as soon as there is a child. */
void warm_wait(struct process *process);
/* The process no longer waits for a child. */
void warm_forget(struct process *process);
/* Has the next child made. */
void warm_refill(void);
/* Answers DONE on this channel once a child waits; false when one does already, or none ever will. */
bool warm_settles(struct port *port, uint32_t channel);
/* A child of ours has ended that is no command. */
void warm_reaped(pid_t pid);
/* Whether programs get fresh randomness; off in the control run alone. */
void warm_reseed(bool on);
/* Another script than the guest's, for tests. */
void warm_script(const char *path);
/* Ends the interpreter. */
void warm_end(void);

#endif
