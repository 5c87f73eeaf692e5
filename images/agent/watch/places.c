/* The directories that a WATCH watches, as a tree that follows theirs: by the kernel's number, by parent and name. */
#define _GNU_SOURCE
#include "watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#define DIRECTORY_MASK                                                                                                       \
    (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF |        \
     IN_ONLYDIR | IN_EXCL_UNLINK)

static int place_count;

static struct place **bucket_of(const struct watch *watch, int wd) {
    return (struct place **)&watch->buckets[(unsigned)wd % WATCH_BUCKETS];
}

struct place *place_find(const struct watch *watch, int wd) {
    struct place *place = *bucket_of(watch, wd);
    while (place != NULL && place->wd != wd) place = place->next;
    return place;
}

struct place *place_child(const struct place *place, const char *name) {
    struct place *child = place->children;
    while (child != NULL && strcmp(child->name, name) != 0) child = child->sibling;
    return child;
}

/* Puts the names from the root to the place in front of *at; false when there is no room. */
static bool put_names(const struct place *place, const char *begin, char **at) {
    for (; place->parent != NULL; place = place->parent) {
        size_t length = strlen(place->name);
        if ((size_t)(*at - begin) < length + 1) return false;
        *at -= length;
        memcpy(*at, place->name, length);
        *--*at = '/';
    }
    return true;
}

bool place_path(const struct watch *watch, const struct place *place, const char *name, char out[PATH_BYTES]) {
    char names[PATH_BYTES], *at = names + sizeof names;
    if (!put_names(place, names, &at)) return false;
    const char *slash = name[0] == 0 ? "" : "/";
    int below = (int)(names + sizeof names - at);
    int length = snprintf(out, PATH_BYTES, "%s%.*s%s%s", watch->path, below, at, slash, name);
    if (length == 0) return strcpy(out, "/"), true;
    return length < PATH_BYTES;
}

static struct place *place_new(struct watch *watch, struct place *parent, const char *name, int wd) {
    size_t length = strlen(name);
    struct place *place = must_alloc(sizeof *place + length + 1);
    memcpy(place->name, name, length + 1);
    place->wd = wd;
    place->parent = parent;
    if (parent != NULL) {
        place->sibling = parent->children;
        parent->children = place;
    }
    place->next = *bucket_of(watch, wd);
    *bucket_of(watch, wd) = place;
    place_count++;
    return place;
}

static void place_free(struct watch *watch, struct place *place) {
    struct place **at = bucket_of(watch, place->wd);
    while (*at != place) at = &(*at)->next;
    *at = place->next;
    scan_drop(watch, place);
    scan_forget(watch, place);
    inotify_rm_watch(watch->source.fd, place->wd); /* fails when the directory is gone, and with it the watch */
    place_count--;
    free(place);
}

void place_drop(struct watch *watch, struct place *place) {
    if (place->parent != NULL) {
        struct place **at = &place->parent->children;
        while (*at != place) at = &(*at)->sibling;
        *at = place->sibling;
    }
    /* The deepest first, without recursion: a tree of directories is as deep as its maker likes. */
    struct place *stop = place->parent, *now = place;
    while (now != stop) {
        if (now->children != NULL) {
            struct place *child = now->children;
            now->children = child->sibling;
            now = child;
        } else {
            struct place *up = now->parent;
            place_free(watch, now);
            now = up;
        }
    }
}

static bool holds(const struct place *above, const struct place *place) {
    while (place != NULL && place != above) place = place->parent;
    return place != NULL;
}

void place_enter(struct watch *watch, struct place *parent, const char *name, bool tells) {
    const uint32_t mask = DIRECTORY_MASK | IN_DONT_FOLLOW;
    char path[PATH_BYTES];
    struct place *known = place_child(parent, name);
    if (known != NULL) place_drop(watch, known);
    if (place_count >= WATCHED_DIRECTORIES_MAX) {
        watch->failure = ENOSPC;
        return;
    }
    if (!place_path(watch, parent, name, path)) {
        watch->overflows = true; /* what happens there cannot be told */
        return;
    }
    int wd = inotify_add_watch(watch->source.fd, path, mask);
    struct place *same = wd < 0 ? NULL : place_find(watch, wd);
    if (same != NULL) {
        if (holds(same, parent)) return; /* the same directory once more below itself, by a mount */
        /* It was moved here, and the event of that is still to come; or it has two places, by a mount. */
        place_drop(watch, same);
        wd = inotify_add_watch(watch->source.fd, path, mask);
    }
    if (wd < 0) {
        if (errno == ENOSPC || errno == ENOMEM) watch->failure = errno;
        return; /* else it is gone again, or no directory any more: events will say so */
    }
    struct place *place = place_new(watch, parent, name, wd);
    place->tells = tells;
    scan_queue(watch, place);
}

int places_open(struct watch *watch) {
    watch->source.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch->source.fd < 0) return errno;
    const char *path = watch->path[0] == 0 ? "/" : watch->path;
    if (place_count >= WATCHED_DIRECTORIES_MAX) return ENOSPC;
    /* What is asked for is a directory itself: seen without following a link, and the root of what is watched. */
    bool follows = watch->only[0] != 0;
    int wd = inotify_add_watch(watch->source.fd, path, DIRECTORY_MASK | (follows ? 0 : IN_DONT_FOLLOW));
    if (wd < 0) return errno;
    watch->root = place_new(watch, NULL, "", wd);
    watch->above = -1;
    if (watch->own[0] != 0) {
        char above[PATH_BYTES];
        size_t length = strlen(watch->path) - strlen(watch->own) - 1;
        snprintf(above, sizeof above, "%.*s", (int)length, watch->path);
        watch->above = inotify_add_watch(watch->source.fd, length == 0 ? "/" : above,
                                         IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR | IN_MASK_ADD);
        if (watch->above == wd) watch->above = -1; /* "." and its kin */
    }
    if (watch->recursive) scan_queue(watch, watch->root);
    return loop_watch(&watch->source, EPOLLIN) == 0 ? 0 : errno;
}

void places_close(struct watch *watch) {
    loop_close(&watch->source); /* and with it every watch, at once */
    if (watch->root != NULL) place_drop(watch, watch->root);
    watch->root = NULL;
    watch->fill = watch->at = 0;
}
