/*
 * Holding the disks still while the host copies them. A child of the agent freezes the file systems, for that waits for
 * their last writes, and thaws them as soon as the agent lets go of it: by THAW, CANCEL, a host that goes or comes, or the
 * end of its time. Until it has gone, requests that would have the agent itself write to a disk are held.
 */
#ifndef FREEZE_H
#define FREEZE_H

#include "../agent.h"

enum { FREEZE_TEXT_BYTES = 256 };

/* What a freezer tells the agent, once: 0, or the errno of the step that failed; then nothing is frozen. */
struct freeze_word {
    int code;
    char text[FREEZE_TEXT_BYTES];
};

/* How a freezer ends. Anything else, a SIGKILL for instance, leaves it open what is frozen. */
enum { FREEZER_DONE = 0, FREEZER_LATE = 3 };

/* disks.c */
/* Opens the list of mounts, before any user code could hide it. */
void disks_open(void);
/* An ordinary process freezes this mount and no other, or none; for tests. */
void disks_only(const char *path);
/* The freezer's whole life: freezes, says so on fd, and thaws when the other end closes or time is up. */
_Noreturn void disks_freeze(int fd);
/* Thaws whatever is frozen, whoever did it. */
_Noreturn void disks_thaw(void);

/* freeze.c */
void handle_freeze(struct port *port, const struct frame *frame, const struct fields *fields);
void handle_thaw(struct port *port, const struct frame *frame, const struct fields *fields);
/* Whether the disks may be frozen, so that a write of the agent's own could wait for the host. */
bool freeze_active(void);
/* Thaws as soon as that can be; fine when nothing is frozen. */
void freeze_end(void);
/* A child of ours has ended that is no command. */
void freeze_reaped(pid_t pid, int status);

/* hold.c */
/* Whether the frame has been put aside, or answered, instead of being done now. */
bool held_back(struct port *port, const struct frame *frame);
/* Does everything that has been put aside, in its order. */
void held_release(void);

#endif
