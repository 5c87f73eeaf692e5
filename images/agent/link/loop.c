/* The event loop over epoll; see loop.h. */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_PER_ROUND = 64 };

static int epoll_fd = -1;
static bool stopped;
/* Rings with a head: an element is queued exactly when its `next` is set. */
static struct task tasks = {.next = &tasks, .before = &tasks};
static struct timer timers = {.next = &timers, .before = &timers};
static struct epoll_event events[EVENTS_PER_ROUND];
static int event_count;

void loop_open(void) { epoll_fd = epoll_create1(EPOLL_CLOEXEC); }

int loop_watch(struct source *source, uint32_t wanted) {
    struct epoll_event event = {.events = wanted | EPOLLET, .data = {.ptr = source}};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, source->fd, &event);
}

void loop_forget(struct source *source) {
    if (source->fd < 0) return;
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    for (int i = 0; i < event_count; i++) {
        if (events[i].data.ptr == source) events[i].data.ptr = NULL;
    }
}

void loop_close(struct source *source) {
    if (source->fd < 0) return;
    loop_forget(source);
    close(source->fd);
    source->fd = -1;
}

void task_queue(struct task *task) {
    if (task->next != NULL) return;
    task->next = &tasks;
    task->before = tasks.before;
    tasks.before->next = task;
    tasks.before = task;
}

void task_drop(struct task *task) {
    if (task->next == NULL) return;
    task->before->next = task->next;
    task->next->before = task->before;
    task->next = task->before = NULL;
}

void timer_set(struct timer *timer, uint64_t at_ns) {
    timer_drop(timer);
    timer->at_ns = at_ns == 0 ? 1 : at_ns;
    struct timer *after = timers.before;
    while (after != &timers && after->at_ns > timer->at_ns) after = after->before;
    timer->before = after;
    timer->next = after->next;
    after->next->before = timer;
    after->next = timer;
}

void timer_drop(struct timer *timer) {
    if (timer->next == NULL) return;
    timer->before->next = timer->next;
    timer->next->before = timer->before;
    timer->next = timer->before = NULL;
    timer->at_ns = 0;
}

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* One turn for each task that was queued when the round began. */
static void run_tasks(void) {
    struct task end = {0};
    task_queue(&end);
    while (tasks.next != &end) {
        struct task *task = tasks.next;
        task_drop(task);
        if (task->run(task)) task_queue(task);
    }
    task_drop(&end);
}

static void fire_timers(void) {
    if (timers.next == &timers) return;
    uint64_t now = now_ns();
    while (timers.next != &timers && timers.next->at_ns <= now) {
        struct timer *timer = timers.next;
        timer_drop(timer);
        timer->fire(timer);
    }
}

static int wait_ms(void) {
    if (tasks.next != &tasks) return 0;
    if (timers.next == &timers) return -1;
    uint64_t now = now_ns(), at = timers.next->at_ns;
    if (at <= now) return 0;
    uint64_t ms = (at - now + 999999) / 1000000;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

void loop_run(void (*settle)(void)) {
    while (!stopped) {
        settle();
        int count = epoll_wait(epoll_fd, events, EVENTS_PER_ROUND, wait_ms());
        event_count = count < 0 ? 0 : count;
        for (int i = 0; i < event_count; i++) {
            struct source *source = events[i].data.ptr;
            if (source != NULL) source->ready(source, events[i].events);
        }
        event_count = 0;
        run_tasks();
        fire_timers();
    }
}

void loop_stop(void) { stopped = true; }
