/*
 * Watching directories: each WATCH is an inotify instance of its own, read only as fast as the host takes what it says. The
 * kernel's queue of events, which is bounded, is the only one; when it runs over, the host is told, and all is looked at anew.
 */
#ifndef WATCH_H
#define WATCH_H

#include "../agent.h"

enum {
    WATCHES_MAX = 32,             /* at once; a user has 128 inotify instances, ours included */
    WATCHED_DIRECTORIES_MAX = 4096, /* of all; the kernel's own limit is 8192 in a small guest */
    WATCH_BUCKETS = 256,
    EVENTS_BYTES = 8192,
};

/* What happened, as it is told. */
enum change { CHANGE_CREATED = 1, CHANGE_MODIFIED, CHANGE_REMOVED, CHANGE_ATTRIBUTES, CHANGE_OVERFLOW };
enum { CHANGE_DIRECTORY = 1 };
enum { WATCH_RECURSIVE = 1 };

/* A directory that is watched. */
struct place {
    struct place *next;    /* of its bucket */
    struct place *parent;  /* NULL: the root */
    struct place *children, *sibling;
    struct place *next_scan;
    bool scans;  /* waits to be looked through */
    bool tells;  /* and what is found is told as created */
    int wd;
    /* Hashes of names that a scan has told: events from before its end, by position in the stream of events, say them again. */
    uint64_t *told;
    uint32_t told_count, told_room;
    uint64_t told_until;
    char name[]; /* empty for the root */
};

/* One WATCH. */
struct watch {
    struct channel channel;
    struct source source; /* inotify */
    struct task pump;
    struct place *root;
    struct place *buckets[WATCH_BUCKETS];
    struct place *scans, **last_scan;
    void *dir; /* DIR of the first of `scans`, once it has been opened */
    int above;  /* the watch on the directory that holds the root, which hears of its removal; -1: none */
    char path[PATH_BYTES]; /* of the root; without slashes at its end, so empty for "/" */
    char only[256];       /* not empty: of the root's entries only this one, which then is what is told of */
    char own[256];        /* the root's name in the directory above */
    bool recursive, started;
    bool lost;      /* the kernel has dropped events */
    bool overflows; /* to be told once all is looked at anew */
    bool gone;      /* the root is no longer there */
    bool removed;   /* `only` is not there, and that has been told */
    int failure;    /* errno that ends it */
    uint64_t position; /* bytes of events that have been dealt with */
    uint64_t told;     /* names in all `told`s */
    uint32_t fill, at; /* of `events` */
    struct buf *out;   /* while a CHUNK is being built */
    size_t last;       /* bytes of its last record */
    uint8_t events[EVENTS_BYTES] __attribute__((aligned(8)));
};

void handle_watch(struct port *port, const struct frame *frame, const struct fields *fields);

/* watch.c */
/* One record into the CHUNK that is being built: of an entry of the place, or of the place itself when the name is empty. */
void watch_tell(struct watch *watch, enum change change, bool directory, const struct place *place, const char *name);
/* A file that the agent writes to and renames when it is whole. */
bool is_temporary(const char *name);
/* The record's bytes, for golden frames as well. */
void put_change_record(struct buf *out, enum change change, bool directory, const char *path, size_t length);

/* places.c */
/* Opens inotify and watches the root; 0 or an errno. */
int places_open(struct watch *watch);
/* Forgets every place and closes inotify. */
void places_close(struct watch *watch);
struct place *place_find(const struct watch *watch, int wd);
struct place *place_child(const struct place *place, const char *name);
/* The path of an entry of the place; false when it is too long. */
bool place_path(const struct watch *watch, const struct place *place, const char *name, char out[PATH_BYTES]);
/* Watches a directory in the place and has it looked through. What it was known as before is forgotten. */
void place_enter(struct watch *watch, struct place *parent, const char *name, bool tells);
/* Forgets a place and all below it, and watches them no longer. */
void place_drop(struct watch *watch, struct place *place);

/* scan.c */
void scan_queue(struct watch *watch, struct place *place);
void scan_drop(struct watch *watch, struct place *place);
/* Looks at the next entry of the first place that waits for it. */
void scan_step(struct watch *watch);
/* Whether a scan has told this name, and the event at the stream's position is from before that. */
bool scan_told(struct watch *watch, struct place *place, const char *name);
/* It is gone: what comes of that name is news again. */
void scan_untell(struct watch *watch, struct place *place, const char *name);
void scan_forget(struct watch *watch, struct place *place);

#endif
