/* WATCH: from a request to records of what changes, until its host leaves or what is watched is gone. See watch.h. */
#define _GNU_SOURCE
#include "watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../file/file.h"

enum { RECORD_FIXED_BYTES = 1 + 1 + 2, RECORD_MAX_BYTES = 4 + RECORD_FIXED_BYTES + PATH_BYTES, STEPS_PER_TURN = 512 };

static int watch_count;

bool is_temporary(const char *name) { return strncmp(name, ".warren-", 8) == 0 && strlen(name) == 14; }

void put_change_record(struct buf *out, enum change change, bool directory, const char *path, size_t length) {
    uint8_t *at = buf_room(out, 4 + RECORD_FIXED_BYTES + length);
    store_u32(at, (uint32_t)(RECORD_FIXED_BYTES + length));
    at[4] = (uint8_t)change;
    at[5] = directory ? CHANGE_DIRECTORY : 0;
    store_u16(at + 6, (uint16_t)length);
    memcpy(at + 8, path, length);
    out->end += 4 + RECORD_FIXED_BYTES + length;
}

void watch_tell(struct watch *watch, enum change change, bool directory, const struct place *place, const char *name) {
    char path[PATH_BYTES];
    if (!place_path(watch, place, name, path)) {
        watch->overflows = true;
        return;
    }
    size_t root = strlen(watch->path), length = strlen(path);
    const char *below = length > root && watch->only[0] == 0 ? path + root + 1 : "";
    size_t before = buf_used(watch->out);
    put_change_record(watch->out, change, directory, below, strlen(below));
    size_t bytes = buf_used(watch->out) - before;
    const uint8_t *end = watch->out->data + watch->out->end;
    /* A file that is written piece by piece has changed once, as long as nobody has been told. */
    bool again = change != CHANGE_CREATED && watch->last == bytes && memcmp(end - bytes, end - 2 * bytes, bytes) == 0;
    if (again) watch->out->end -= bytes;
    else watch->last = bytes;
}

static void watch_free(struct watch *watch) {
    task_drop(&watch->pump);
    places_close(watch);
    watch_count--;
    free(watch);
}

static void watch_resume(struct channel *channel) { task_queue(&owner_of(channel, struct watch, channel)->pump); }

static void watch_gone(struct channel *channel) { watch_free(owner_of(channel, struct watch, channel)); }

static void watch_fails(struct watch *watch, int code) {
    struct channel *channel = &watch->channel;
    const char *path = watch->path[0] == 0 ? "/" : watch->path;
    if (code == ENOSPC) {
        say_error(channel->port, channel->id, code, "%s: more than %d directories to watch at once", path,
                  WATCHED_DIRECTORIES_MAX);
    } else {
        say_error(channel->port, channel->id, code, "%s: %s", path, strerror(code));
    }
    channel_close(channel);
    watch_free(watch);
}

static void watch_cancel(struct channel *channel) { watch_fails(owner_of(channel, struct watch, channel), ECANCELED); }

static const struct channel_ops watch_channel = {.resume = watch_resume, .cancel = watch_cancel, .gone = watch_gone};

/* A file, or the like, is watched from the directory it is in: what takes its place is still what was asked for. */
static int inspect(struct watch *watch) {
    struct stat facts;
    if (lstat(watch->path[0] == 0 ? "/" : watch->path, &facts) != 0) return errno;
    char *slash = strrchr(watch->path, '/');
    const char *name = slash == NULL ? "" : slash + 1;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) name = "";
    if (S_ISDIR(facts.st_mode)) {
        snprintf(watch->own, sizeof watch->own, "%s", name);
    } else {
        snprintf(watch->only, sizeof watch->only, "%s", name);
        *slash = 0;
        watch->recursive = false;
    }
    return 0;
}

/* Everything is looked at anew, without a word: only what changes after it can be told. */
static void start_over(struct watch *watch) {
    places_close(watch);
    watch->lost = false;
    watch->overflows = true;
    int code = places_open(watch);
    if (code == ENOENT || code == ENOTDIR || code == ELOOP) watch->gone = true;
    else watch->failure = code;
}

static void entry_changed(struct watch *watch, struct place *place, uint32_t mask, const char *name) {
    bool directory = (mask & IN_ISDIR) != 0;
    if (mask & (IN_CREATE | IN_MOVED_TO)) {
        if (scan_told(watch, place, name)) return;
        watch_tell(watch, CHANGE_CREATED, directory, place, name);
        if (directory && watch->recursive) place_enter(watch, place, name, true);
    } else if (mask & (IN_DELETE | IN_MOVED_FROM)) {
        scan_untell(watch, place, name);
        watch_tell(watch, CHANGE_REMOVED, directory, place, name);
        struct place *child = directory ? place_child(place, name) : NULL;
        if (child != NULL) place_drop(watch, child);
    } else if (mask & (IN_MODIFY | IN_ATTRIB)) {
        watch_tell(watch, mask & IN_MODIFY ? CHANGE_MODIFIED : CHANGE_ATTRIBUTES, directory, place, name);
    }
}

static void take_event(struct watch *watch, const struct inotify_event *event) {
    const char *name = event->len > 0 ? event->name : "";
    if (event->mask & IN_Q_OVERFLOW) {
        watch->lost = true;
        return;
    }
    if (event->wd == watch->above && event->mask & (IN_DELETE | IN_MOVED_FROM) && strcmp(name, watch->own) == 0) {
        watch->gone = true;
        return;
    }
    struct place *place = place_find(watch, event->wd);
    if (place == NULL) return; /* forgotten meanwhile */
    bool is_root = place == watch->root;
    if (event->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)) {
        if (is_root) watch->gone = true;
        else if (event->mask & IN_IGNORED) place_drop(watch, place); /* below the root its parent says so */
    } else if (watch->only[0] != 0) {
        if (strcmp(name, watch->only) != 0) return;
        watch->removed = (event->mask & (IN_DELETE | IN_MOVED_FROM)) != 0;
        entry_changed(watch, place, event->mask, name);
    } else if (name[0] != 0) {
        if (!is_temporary(name)) entry_changed(watch, place, event->mask, name);
    } else if (is_root && event->mask & IN_ATTRIB) {
        watch_tell(watch, CHANGE_ATTRIBUTES, true, place, "");
    }
}

/* Names that scans have told are of no use once every event has been dealt with. */
static void forget_told(struct watch *watch) {
    for (int i = 0; i < WATCH_BUCKETS && watch->told > 0; i++) {
        for (struct place *place = watch->buckets[i]; place != NULL; place = place->next) scan_forget(watch, place);
    }
}

/* The next piece of work; false when there is none until the kernel has more. */
static bool step(struct watch *watch) {
    if (watch->scans != NULL) {
        scan_step(watch);
        return true;
    }
    if (watch->at < watch->fill) {
        const struct inotify_event *event = (const void *)(watch->events + watch->at);
        uint32_t bytes = (uint32_t)sizeof *event + event->len;
        watch->at += bytes;
        take_event(watch, event);
        watch->position += bytes;
        return true;
    }
    ssize_t got = read(watch->source.fd, watch->events, sizeof watch->events);
    if (got < 0 && errno == EINTR) return true;
    watch->at = 0;
    watch->fill = got > 0 ? (uint32_t)got : 0;
    if (got <= 0) forget_told(watch);
    return got > 0;
}

/* Builds a CHUNK of what there is; false when there was nothing to be done. */
static bool chunk(struct watch *watch, uint32_t allowed) {
    struct channel *channel = &watch->channel;
    struct frame_mark mark = frame_begin(&channel->port->out, SAY_CHUNK, channel->id);
    size_t begin = buf_used(&channel->port->out);
    bool more = true;
    watch->out = &channel->port->out;
    watch->last = 0;
    if (watch->overflows && watch->scans == NULL && watch->started) {
        put_change_record(watch->out, CHANGE_OVERFLOW, false, "", 0);
        watch->overflows = false;
    }
    for (int i = 0; i < STEPS_PER_TURN && more && !watch->gone && !watch->lost && watch->failure == 0; i++) {
        if (allowed - (buf_used(watch->out) - begin) < RECORD_MAX_BYTES) break;
        if (watch->scans == NULL && !watch->started) break;
        more = step(watch);
    }
    if (watch->gone && watch->failure == 0 && !watch->removed) {
        put_change_record(watch->out, CHANGE_REMOVED, watch->only[0] == 0, "", 0);
    }
    size_t length = buf_used(watch->out) - begin;
    if (length == 0) frame_undo(watch->out, mark);
    else frame_end(watch->out, mark);
    channel->credit -= length;
    return more;
}

static bool watch_pump(struct task *task) {
    struct watch *watch = owner_of(task, struct watch, pump);
    struct channel *channel = &watch->channel;
    uint32_t allowed = channel_allowance(channel, FRAME_BYTES);
    if (allowed < 2 * RECORD_MAX_BYTES) return false; /* `resume` queues it again */
    if (watch->lost) start_over(watch);
    bool more = chunk(watch, allowed);
    if (watch->failure != 0) {
        watch_fails(watch, watch->failure);
        return false;
    }
    if (watch->gone) {
        say(channel->port, channel->id, SAY_DONE);
        channel_close(channel);
        watch_free(watch);
        return false;
    }
    if (!watch->started && watch->scans == NULL) {
        watch->started = true;
        say(channel->port, channel->id, SAY_STARTED);
        return true;
    }
    return more || watch->lost || watch->overflows;
}

static void watch_ready(struct source *source, uint32_t events) {
    (void)events;
    task_queue(&owner_of(source, struct watch, source)->pump);
}

void handle_watch(struct port *port, const struct frame *frame, const struct fields *fields) {
    char path[PATH_BYTES];
    uint64_t flags = 0;
    if (!take_path(port, frame, fields, TAG_PATH, path)) return;
    if (!fields_optional_u64(fields, TAG_FLAGS, &flags)) {
        fail(port, frame->channel, EINVAL, path);
        return;
    }
    if (watch_count >= WATCHES_MAX) {
        say_error(port, frame->channel, EMFILE, "%s: more than %d watches at once", path, WATCHES_MAX);
        return;
    }
    struct watch *watch = must_alloc(sizeof *watch);
    watch_count++;
    watch->source = (struct source){.fd = -1, .ready = watch_ready};
    watch->last_scan = &watch->scans;
    watch->pump.run = watch_pump;
    watch->recursive = (flags & WATCH_RECURSIVE) != 0;
    if (!channel_open(port, &watch->channel, frame->channel, &watch_channel)) {
        say_error(port, frame->channel, EBUSY, "too many requests at once");
        watch_free(watch);
        return;
    }
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/') path[--length] = 0;
    memcpy(watch->path, path, length + 1);
    int code = inspect(watch);
    if (code == 0) code = places_open(watch);
    if (code != 0) watch_fails(watch, code);
    else task_queue(&watch->pump);
}
