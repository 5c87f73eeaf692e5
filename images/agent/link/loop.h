/*
 * The one event loop. Descriptors report readiness (edge-triggered), tasks are work that may go on now, timers are absolute
 * monotonic times. Everything of the agent runs on this loop, and nothing on it may block for long.
 */
#ifndef LOOP_H
#define LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The struct that holds `member`, from a pointer to that member. */
#define owner_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

struct source {
    int fd; /* -1 when there is none */
    void (*ready)(struct source *source, uint32_t events);
};

struct task {
    struct task *next, *before; /* NULL when not queued */
    /* Does one bounded piece of work; true when more can be done right away. */
    bool (*run)(struct task *task);
};

struct timer {
    struct timer *next, *before;
    uint64_t at_ns; /* 0 when not set */
    void (*fire)(struct timer *timer);
};

void loop_open(void);
/* Reports when `fd` becomes ready for `events` (EPOLLIN, EPOLLOUT, EPOLLPRI); edge-triggered. -1 with errno on failure. */
int loop_watch(struct source *source, uint32_t events);
/* Stops watching and closes the descriptor; events of it still on their way are dropped. */
void loop_close(struct source *source);
/* Stops watching only. */
void loop_forget(struct source *source);
void task_queue(struct task *task);
void task_drop(struct task *task);
void timer_set(struct timer *timer, uint64_t at_ns);
void timer_drop(struct timer *timer);
/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t now_ns(void);
/* Runs until `loop_stop`. `settle` runs before every wait: the place to flush what the round has produced. */
void loop_run(void (*settle)(void));
void loop_stop(void);

#endif
